//! Server-sent events as bytes: the format of `text/event-stream` (WHATWG HTML §9.2.6), read piece by piece.
//!
//! Stricter than a browser: bytes that are not UTF-8, a frame larger than any that this API sends, and fields with a name
//! that the format does not know end the stream, because each of them shows that something else than this API answers.

use std::{collections::VecDeque, mem};

/// The largest frame that is read. A revision holds 2 MiB of values at most, which base64 and escapes can multiply.
pub(crate) const FRAME_BYTES_MAX: usize = 64 << 20;

/// One event as it was sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Frame {
    /// Field `event`; empty when it was not sent.
    pub(crate) event: String,
    /// Field `id`.
    pub(crate) id: Option<String>,
    /// The `data` fields, joined by line feeds.
    pub(crate) data: String,
}

/// Why bytes are not a stream of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamFault {
    /// A line is not UTF-8.
    #[error("a line that is not UTF-8")]
    NotText,
    /// A line has a field that the format does not know.
    #[error("an unknown field")]
    UnknownField,
    /// A frame is larger than any that this API sends.
    #[error("a frame of more than {FRAME_BYTES_MAX} bytes")]
    TooLarge,
    /// A frame has an event that this API does not send here.
    #[error("an unknown event")]
    UnknownEvent,
    /// A frame has no id, or one that is not of this API or not that of its data.
    #[error("an event whose id is missing or does not fit")]
    Id,
    /// A part of a state does not continue the part before.
    #[error("a state whose parts do not fit together")]
    State,
}

/// Cuts bytes into frames.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// The bytes of a line that has not ended.
    line: Vec<u8>,
    /// The fields of a frame that has not ended.
    frame: Frame,
    /// Whether the frame has a `data` field.
    has_data: bool,
    /// What the frame has taken so far, in bytes.
    frame_bytes: usize,
    /// The last byte was a carriage return: a line feed that follows belongs to it.
    after_return: bool,
    /// A line has ended: a byte order mark can only stand before.
    begun: bool,
}

impl Parser {
    /// Takes the next bytes and adds the frames that they complete.
    ///
    /// # Errors
    /// [`StreamFault`]; the parser is of no use afterwards.
    pub(crate) fn push(&mut self, bytes: &[u8], frames: &mut VecDeque<Frame>) -> Result<(), StreamFault> {
        for &byte in bytes {
            let second_half_of_line_end = byte == b'\n' && mem::take(&mut self.after_return);
            self.after_return = byte == b'\r';
            match byte {
                b'\n' if second_half_of_line_end => {}
                b'\n' | b'\r' => {
                    let line = mem::take(&mut self.line);
                    frames.extend(self.end_line(&line)?);
                }
                other => {
                    self.frame_bytes += 1;
                    if FRAME_BYTES_MAX < self.frame_bytes {
                        return Err(StreamFault::TooLarge);
                    }
                    self.line.push(other);
                }
            }
        }
        Ok(())
    }

    /// Whether a frame has begun and not ended. A comment is no frame.
    pub(crate) fn is_within_frame(&self) -> bool {
        self.has_data
            || self.frame != Frame::default()
            || self.line.first().is_some_and(|first| *first != b':')
    }

    fn end_line(&mut self, line: &[u8]) -> Result<Option<Frame>, StreamFault> {
        let mut line = std::str::from_utf8(line).map_err(|_| StreamFault::NotText)?;
        if !mem::replace(&mut self.begun, true) {
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        if line.is_empty() {
            self.frame_bytes = 0;
            let frame = mem::take(&mut self.frame);
            // Fields without data are no event.
            return Ok(mem::take(&mut self.has_data).then_some(frame));
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            // A comment; it must not count against a frame that it stands before.
            "" => self.frame_bytes -= line.len(),
            "event" => value.clone_into(&mut self.frame.event),
            "id" => self.frame.id = Some(value.to_owned()),
            "data" => {
                if mem::replace(&mut self.has_data, true) {
                    self.frame.data.push('\n');
                }
                self.frame.data.push_str(value);
            }
            // How long a browser waits before it reconnects; this client has its own rule.
            "retry" => {}
            _ => return Err(StreamFault::UnknownField),
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(event: &str, id: Option<&str>, data: &str) -> Frame {
        Frame { event: event.to_owned(), id: id.map(ToOwned::to_owned), data: data.to_owned() }
    }

    fn parse<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Frame>, StreamFault> {
        let mut parser = Parser::default();
        let mut frames = VecDeque::new();
        for piece in pieces {
            parser.push(piece, &mut frames)?;
        }
        Ok(frames.into())
    }

    const STREAM: &str = "\u{feff}: hello\n\nid: a-1\nevent: change\ndata: {\"größe\":\ndata:1}\n\n\
        event:progress\r\ndata: x\r\nid:a-2\r\n\r\nretry: 5\rdata\rdata:  y\r\rid: a-3\nevent: lost\n\ndata: z\n\n\
        data: never ends\n";

    fn expected() -> Vec<Frame> {
        vec![
            frame("change", Some("a-1"), "{\"größe\":\n1}"),
            frame("progress", Some("a-2"), "x"),
            frame("", None, "\n y"),
            frame("", None, "z"),
        ]
    }

    #[test]
    fn frames_are_the_same_wherever_the_bytes_are_cut() {
        let bytes = STREAM.as_bytes();
        for cut in 0..=bytes.len() {
            assert_eq!(parse([&bytes[..cut], &bytes[cut..]]), Ok(expected()), "cut at {cut}");
        }
        assert_eq!(parse(bytes.chunks(1)), Ok(expected()));
    }

    #[test]
    fn every_line_end_of_the_format_ends_a_line() {
        for end in ["\n", "\r\n", "\r"] {
            let text = STREAM.replace("\r\n", "\n").replace('\r', "\n").replace('\n', end);
            let bytes = text.as_bytes();
            for cut in 0..=bytes.len() {
                assert_eq!(parse([&bytes[..cut], &bytes[cut..]]), Ok(expected()), "{end:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_comment_is_no_frame_and_does_not_begin_one() {
        let mut parser = Parser::default();
        let mut frames = VecDeque::new();
        parser.push(b": alive\n\n: alive", &mut frames).unwrap();
        assert!(frames.is_empty() && !parser.is_within_frame());
        parser.push(b"\nda", &mut frames).unwrap();
        assert!(parser.is_within_frame());
        parser.push(b"ta: 1\n", &mut frames).unwrap();
        assert!(parser.is_within_frame());
        parser.push(b"\n", &mut frames).unwrap();
        assert_eq!((frames.len(), parser.is_within_frame()), (1, false));
    }

    #[test]
    fn what_no_server_of_this_api_sends_is_refused() {
        assert_eq!(parse([&b"data: \xff\n\n"[..]]), Err(StreamFault::NotText));
        assert_eq!(parse([&b"<html>\n"[..]]), Err(StreamFault::UnknownField));
        let endless = vec![b'a'; FRAME_BYTES_MAX + 1];
        assert_eq!(parse([&endless[..]]), Err(StreamFault::TooLarge));
    }

    #[test]
    fn comments_without_end_do_not_count_against_a_frame() {
        let comment = [&b":"[..], &vec![b'a'; FRAME_BYTES_MAX / 4], b"\n"].concat();
        let text = [comment.as_slice(), &comment, &comment, &comment, &comment, b"data: 1\n\n"];
        assert_eq!(parse(text), Ok(vec![frame("", None, "1")]));
    }
}
