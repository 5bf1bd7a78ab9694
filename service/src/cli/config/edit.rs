//! `holdfast config edit`: a value in the user's editor, written only if nobody else wrote it meanwhile.

use std::io::Write;
use std::path::Path;

use clap::Args;
use holdfast_api::client::{ClientError, WriteCondition, WriteOptions};
use holdfast_api::config::{ConfigItem, ETag};
use tempfile::{NamedTempFile, TempPath};

use crate::cli::StopSignal;
use crate::cli::config::item::{find, place, tell_written};
use crate::cli::config::value;
use crate::cli::output;
use crate::cli::target::Target;
use crate::exit::{Ending, Fatal};

/// What opens a value when the environment names nothing.
const EDITOR_DEFAULT: &str = "vi";

/// The flags of `holdfast config edit`.
#[derive(Debug, Args)]
pub(super) struct EditArgs {
    /// The key
    #[arg(value_name = "KEY")]
    key: String,
    /// The media type of the value [default: that of the value, or by the extension of KEY]
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
}

/// `holdfast config edit`.
pub(super) async fn edit(args: EditArgs, target: &Target) -> Result<(), Fatal> {
    let EditArgs { key, content_type } = args;
    let what = format!("edit {}", place(target, &key));
    let item = find(target, &key, None).await.map_err(|error| target.failed(&what, &error))?;
    let before = text_of(target, &what, item.as_ref())?;
    let draft = Draft::new(&key, &before).map_err(|error| cannot_keep(&what, &error))?;
    open_editor(&what, draft.path()).await?;
    let after = draft.read().map_err(|error| cannot_keep(&what, &error))?;
    let same_type = content_type
        .as_deref()
        .is_none_or(|wanted| item.as_ref().is_none_or(|item| item.content_type == wanted));
    if after == before.as_bytes() && same_type {
        return output::done(
            target.output,
            &format!("{} is unchanged, nothing is sent", output::printable(&key)),
        );
    }
    let content_type = content_type
        .or_else(|| item.as_ref().map(|item| item.content_type.clone()))
        .unwrap_or_else(|| value::media_type([key.as_str()], &after).to_owned());
    // What an edit does not change stays as it is.
    let options = match &item {
        None => WriteOptions { condition: WriteCondition::Absent, ..WriteOptions::default() },
        Some(item) => WriteOptions {
            condition: WriteCondition::Revision(ETag(item.mod_revision)),
            managed_by: item.managed_by.clone(),
            session: item.session.clone(),
            ..WriteOptions::default()
        },
    };
    match target.client().put_config(&target.namespace, &key, after, &content_type, &options).await {
        Ok(answer) => tell_written(target, &key, answer.value.mod_revision, answer.value.created),
        Err(error) => Err(draft.kept(target, &what, &key, &error)),
    }
}

/// The value as text; a key that does not exist begins empty.
fn text_of(target: &Target, what: &str, item: Option<&ConfigItem>) -> Result<String, Fatal> {
    let Some(item) = item else { return Ok(String::new()) };
    String::from_utf8(item.value.clone().unwrap_or_default()).map_err(|_| {
        let advice =
            "`holdfast config get` writes the bytes to a file, `holdfast config put -f` reads them from it";
        target.refused(Ending::Refused, what, "the value is not text", advice)
    })
}

/// A value on its way through the editor, in a file that only this user can read.
struct Draft {
    path: TempPath,
}

impl Draft {
    /// The file has the extension of the key, by which editors choose their colors.
    fn new(key: &str, text: &str) -> std::io::Result<Self> {
        let suffix = value::extension(key).map(|extension| format!(".{extension}")).unwrap_or_default();
        let mut file: NamedTempFile =
            tempfile::Builder::new().prefix("holdfast-edit-").suffix(&suffix).tempfile()?;
        file.write_all(text.as_bytes())?;
        Ok(Self { path: file.into_temp_path() })
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn read(&self) -> std::io::Result<Vec<u8>> {
        // By its path: an editor may have put another file there.
        std::fs::read(&self.path)
    }

    /// Keeps the user's text, and says where it is and what can be done with it.
    fn kept(self, target: &Target, what: &str, key: &str, error: &ClientError) -> Fatal {
        let mut fatal = target.failed(what, error);
        match self.path.keep() {
            Ok(path) => fatal.reason.push_str(&kept_text(&path, key)),
            Err(error) => {
                fatal.reason.push_str(&format!("\n  your text could not be kept: {}", error.error));
            }
        }
        fatal
    }
}

fn kept_text(path: &Path, key: &str) -> String {
    let path = path.display();
    let key = output::printable(key);
    format!(
        "\n  your text is kept in {path}: `holdfast config get {key}` shows what is there, `holdfast config put {key} -f \
         {path}` writes your text over it"
    )
}

fn cannot_keep(what: &str, error: &std::io::Error) -> Fatal {
    Fatal::new(Ending::Refused, format!("cannot {what}: its temporary file: {error}"))
}

/// Runs the editor and waits for its end.
async fn open_editor(what: &str, path: &Path) -> Result<(), Fatal> {
    let editor = ["VISUAL", "EDITOR"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|editor| !editor.trim().is_empty()));
    let editor = editor.unwrap_or_else(|| EDITOR_DEFAULT.to_owned());
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or(EDITOR_DEFAULT);
    // Ctrl-C in the editor is the editor's: it must not end this program and leave the draft behind.
    let _signals = StopSignal::catch()?;
    let status = tokio::process::Command::new(program).args(words).arg(path).status().await;
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            let reason =
                format!("cannot {what}: the editor {editor} ended with {status}; nothing is changed");
            Err(Fatal::new(Ending::Refused, reason))
        }
        Err(error) => {
            let reason = format!(
                "cannot {what}: cannot start the editor {editor}: {error}\n  next:  set VISUAL or EDITOR to a program \
                 and its arguments"
            );
            Err(Fatal::new(Ending::Usage, reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_has_the_extension_of_its_key_and_goes_with_its_owner() {
        let draft = Draft::new("app/settings.json", "{}").unwrap();
        let path = draft.path().to_owned();
        assert_eq!(path.extension().and_then(|extension| extension.to_str()), Some("json"));
        assert_eq!(draft.read().unwrap(), b"{}");
        drop(draft);
        assert!(!path.exists());
    }

    #[test]
    fn a_draft_is_what_lies_at_its_path() {
        let draft = Draft::new("app/color", "blue").unwrap();
        let other = NamedTempFile::new().unwrap();
        std::fs::write(other.path(), "red").unwrap();
        std::fs::rename(other.path(), draft.path()).unwrap();
        assert_eq!(draft.read().unwrap(), b"red");
    }
}
