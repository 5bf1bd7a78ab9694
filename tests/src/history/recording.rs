//! A history and its ledger as a file of JSON lines.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

use crate::history::{Grant, History, Ledger, Operation, Rule, SessionEnd, Wait};

/// The first line of a file: what it shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// One sentence about the recording.
    pub about: String,
    /// The rules that it must be rejected for, all of them; none for a good history.
    #[serde(default)]
    pub breaks: Vec<Rule>,
    /// The seed that made it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// A history with what the store said about its locks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recording {
    /// What the recording shows.
    pub header: Header,
    /// The clients' operations.
    pub history: History,
    /// The store's own evidence; empty when there is none.
    pub ledger: Ledger,
}

/// Why a recording could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file could not be read.
    #[error("read recording")]
    Read(#[source] io::Error),
    /// A line is not a known record.
    #[error("parse line {number}: {source}")]
    Line {
        /// Its number, from 1.
        number: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The first line is not the only header.
    #[error("line {number}: a recording begins with its one header line")]
    MisplacedHeader {
        /// The offending line's number, from 1.
        number: usize,
    },
    /// An operation ends before it begins.
    #[error("line {number}: ends before it begins")]
    EndsBeforeItBegins {
        /// The line's number, from 1.
        number: usize,
    },
    /// An answer is not one to its call.
    #[error("line {number}: the answer is of another kind than the call")]
    AnswerToAnotherCall {
        /// The line's number, from 1.
        number: usize,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
enum Line {
    Header(Header),
    Operation(Operation),
    Grant(Grant),
    Wait(Wait),
    SessionEnd(SessionEnd),
}

impl Recording {
    /// Reads a file of JSON lines. Empty lines are skipped.
    pub fn read(input: impl BufRead) -> Result<Self, RecordingError> {
        let mut recording = Self::default();
        let mut seen_header = false;
        for (index, line) in input.lines().enumerate() {
            let number = index + 1;
            let line = line.map_err(RecordingError::Read)?;
            if line.trim().is_empty() {
                continue;
            }
            let line =
                serde_json::from_str(&line).map_err(|source| RecordingError::Line { number, source })?;
            let is_header = matches!(line, Line::Header(_));
            if is_header == seen_header {
                return Err(RecordingError::MisplacedHeader { number });
            }
            seen_header = true;
            match line {
                Line::Header(header) => recording.header = header,
                Line::Operation(operation) => {
                    if operation.completed_ns().is_some_and(|at_ns| at_ns < operation.invoked_ns) {
                        return Err(RecordingError::EndsBeforeItBegins { number });
                    }
                    if !operation.answer_fits_call() {
                        return Err(RecordingError::AnswerToAnotherCall { number });
                    }
                    recording.history.operations.push(operation);
                }
                Line::Grant(grant) => recording.ledger.grants.push(grant),
                Line::Wait(wait) => recording.ledger.waits.push(wait),
                Line::SessionEnd(end) => recording.ledger.session_ends.push(end),
            }
        }
        if seen_header { Ok(recording) } else { Err(RecordingError::MisplacedHeader { number: 1 }) }
    }

    /// Writes the recording as JSON lines that [`Recording::read`] reads back.
    pub fn write(&self, mut output: impl Write) -> io::Result<()> {
        let header = std::iter::once(Line::Header(self.header.clone()));
        let operations = self.history.operations.iter().cloned().map(Line::Operation);
        let grants = self.ledger.grants.iter().cloned().map(Line::Grant);
        let waits = self.ledger.waits.iter().cloned().map(Line::Wait);
        let ends = self.ledger.session_ends.iter().cloned().map(Line::SessionEnd);
        for line in header.chain(operations).chain(grants).chain(waits).chain(ends) {
            serde_json::to_writer(&mut output, &line)?;
            output.write_all(b"\n")?;
        }
        output.flush()
    }
}
