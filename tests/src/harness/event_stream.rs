//! A reader of server-sent events, as simple as the format: it neither reconnects nor forgives.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// One event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentEvent {
    /// Its id, if it has one.
    pub id: Option<String>,
    /// `state`, `change`, `progress` or `error`.
    pub kind: String,
    /// Its data, a JSON document.
    pub data: String,
}

/// The answer to a request for a stream that was refused.
#[derive(Clone, Debug, PartialEq)]
pub struct RefusedStream {
    /// The status.
    pub status: StatusCode,
    /// The problem document.
    pub problem: Value,
}

/// An open stream.
#[derive(Debug)]
pub struct EventStream {
    response: reqwest::Response,
    text: Vec<u8>,
    /// No event ends within so many bytes of the text.
    searched: usize,
}

impl SentEvent {
    /// Its data as a type of the API.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.data).with_context(|| format!("{self:?} is not what its kind says"))
    }

    /// The event in the lines between two empty ones; none when they only have comments and settings.
    pub fn of_lines(lines: &str) -> Result<Option<Self>> {
        let (mut id, mut kind, mut data) = (None, None, None);
        for line in lines.lines() {
            let (field, value) = line.split_once(": ").with_context(|| format!("a line {line:?}"))?;
            let slot = match field {
                "id" => &mut id,
                "event" => &mut kind,
                "data" => &mut data,
                "retry" => continue,
                _ => bail!("a field {field:?}"),
            };
            ensure!(slot.is_none(), "{field} twice in {lines:?}");
            *slot = Some(value.to_owned());
        }
        match (kind, data) {
            (Some(kind), Some(data)) => Ok(Some(Self { id, kind, data })),
            (None, None) if id.is_none() => Ok(None),
            _ => bail!("half an event: {lines:?}"),
        }
    }
}

impl EventStream {
    /// Asks for a stream at a URL, after the event with an id.
    pub async fn open(
        http: &reqwest::Client,
        url: &str,
        last_event_id: Option<&str>,
    ) -> Result<Result<Self, RefusedStream>> {
        let mut request = http.get(url);
        if let Some(id) = last_event_id {
            request = request.header("Last-Event-ID", id);
        }
        let response = request.send().await.with_context(|| format!("get {url}"))?;
        let status = response.status();
        if status != StatusCode::OK {
            let problem = response.json().await.with_context(|| format!("{url} answered {status}"))?;
            return Ok(Err(RefusedStream { status, problem }));
        }
        let content_type = response.headers().get("content-type").map(|value| value.as_bytes().to_vec());
        ensure!(content_type.as_deref() == Some(b"text/event-stream"), "{url} answered {content_type:?}");
        Ok(Ok(Self { response, text: Vec::new(), searched: 0 }))
    }

    /// A header of the answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name).and_then(|value| value.to_str().ok())
    }

    /// The next event; none when the server has ended the stream.
    pub async fn next(&mut self) -> Result<Option<SentEvent>> {
        loop {
            while let Some(end) = self.text[self.searched..].windows(2).position(|pair| pair == b"\n\n") {
                let end = self.searched + end;
                let rest = self.text.split_off(end + 2);
                let lines = std::mem::replace(&mut self.text, rest);
                self.searched = 0;
                let lines = std::str::from_utf8(&lines[..end]).context("an event is text")?;
                if let Some(event) = SentEvent::of_lines(lines)? {
                    return Ok(Some(event));
                }
            }
            self.searched = self.text.len().saturating_sub(1);
            match self.response.chunk().await.context("read the stream")? {
                Some(chunk) => self.text.extend_from_slice(&chunk),
                None => {
                    ensure!(self.text.is_empty(), "the stream ends within an event: {:?}", self.text);
                    return Ok(None);
                }
            }
        }
    }

    /// The next event, which must come in time.
    pub async fn next_within(&mut self, limit: Duration) -> Result<SentEvent> {
        let next = tokio::time::timeout(limit, self.next()).await;
        next.with_context(|| format!("no event within {limit:?}"))??.context("the stream has ended")
    }

    /// The next event that is no progress, which must come in time.
    pub async fn next_telling(&mut self, limit: Duration) -> Result<SentEvent> {
        let telling = async {
            loop {
                match self.next().await? {
                    Some(event) if event.kind == "progress" => {}
                    Some(event) => return anyhow::Ok(event),
                    None => bail!("the stream has ended"),
                }
            }
        };
        tokio::time::timeout(limit, telling).await.with_context(|| format!("no event within {limit:?}"))?
    }
}

#[cfg(test)]
mod tests {
    use super::SentEvent;

    #[test]
    fn an_event_is_read_from_its_lines_and_settings_are_passed_over() {
        let event = SentEvent::of_lines("id: 1-2\nevent: change\ndata: {\"a\": 1}").unwrap().unwrap();
        assert_eq!(event.id.as_deref(), Some("1-2"));
        assert_eq!((event.kind.as_str(), event.data.as_str()), ("change", "{\"a\": 1}"));
        assert_eq!(SentEvent::of_lines("retry: 1000").unwrap(), None);
        for bad in ["event: change", "data: {}", "id: 1", "event: a\nevent: b\ndata: {}", "x: y", "nothing"] {
            assert!(SentEvent::of_lines(bad).is_err(), "{bad}");
        }
    }
}
