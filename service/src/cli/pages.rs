//! Lists in one piece: the API gives them page by page.

use holdfast_api::config::{ConfigItem, ConfigList};
use holdfast_api::locks::{LockList, LockView};
use holdfast_api::namespaces::{NamespaceList, NamespaceView};
use holdfast_api::query::ListQuery;
use holdfast_api::sessions::{SessionList, SessionView};

use crate::exit::Fatal;

/// One page of a list.
pub(super) trait Page {
    /// What is listed.
    type Item;

    /// The page's items and where the next page begins.
    fn parts(&mut self) -> (&mut Vec<Self::Item>, &mut Option<String>);
}

impl Page for NamespaceList {
    type Item = NamespaceView;

    fn parts(&mut self) -> (&mut Vec<NamespaceView>, &mut Option<String>) {
        (&mut self.items, &mut self.next_cursor)
    }
}

impl Page for LockList {
    type Item = LockView;

    fn parts(&mut self) -> (&mut Vec<LockView>, &mut Option<String>) {
        (&mut self.items, &mut self.next_cursor)
    }
}

impl Page for ConfigList {
    type Item = ConfigItem;

    fn parts(&mut self) -> (&mut Vec<ConfigItem>, &mut Option<String>) {
        (&mut self.items, &mut self.next_cursor)
    }
}

impl Page for SessionList {
    type Item = SessionView;

    fn parts(&mut self) -> (&mut Vec<SessionView>, &mut Option<String>) {
        (&mut self.items, &mut self.next_cursor)
    }
}

/// All pages as one, with the revision of the first: no item is older than that.
///
/// # Errors
/// As `fetch`.
pub(super) async fn all<P: Page>(
    prefix: Option<String>,
    fetch: impl AsyncFn(ListQuery) -> Result<P, Fatal>,
) -> Result<P, Fatal> {
    let mut query = ListQuery { prefix, ..ListQuery::default() };
    let mut list = fetch(query.clone()).await?;
    loop {
        let (items, next_cursor) = list.parts();
        let Some(cursor) = next_cursor.take() else { return Ok(list) };
        query.cursor = Some(cursor);
        let mut page = fetch(query.clone()).await?;
        let (more, after) = page.parts();
        items.append(more);
        *next_cursor = after.take();
    }
}
