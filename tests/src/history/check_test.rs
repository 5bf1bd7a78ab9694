//! The recordings in `histories`: each bad one is rejected for exactly the rules that it names.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::PathBuf;

use crate::history::{
    Budget, Call, ClientId, Key, Operation, Outcome, Recording, RecordingError, Rule, check,
};

fn recordings(kind: &str) -> Vec<(String, Recording)> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("histories").join(kind);
    let mut paths: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let recording = Recording::read(BufReader::new(File::open(&path).unwrap()));
        let recording = recording.unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, recording)
    };
    paths.into_iter().map(read).collect()
}

#[test]
fn every_bad_recording_is_rejected_for_the_rules_that_it_names() {
    let bad = recordings("bad");
    for (name, recording) in &bad {
        let report = check(recording, Budget::default());
        assert!(!recording.header.breaks.is_empty(), "{name} names no rule");
        let explained = report.explain(&recording.history.operations).to_string();
        assert_eq!(report.broken_rules(), recording.header.breaks, "{name}\n{explained}");
        assert_eq!(report.undecided, Vec::new(), "{name}");
    }
    let mut rejected: Vec<Rule> =
        bad.iter().flat_map(|(_, recording)| recording.header.breaks.iter().copied()).collect();
    rejected.sort_unstable();
    rejected.dedup();
    let all = [
        Rule::Linearizable,
        Rule::Revisions,
        Rule::L1,
        Rule::L2,
        Rule::L3,
        Rule::L4,
        Rule::L5,
        Rule::L6,
        Rule::L7,
        Rule::L8,
        Rule::L10,
    ];
    assert_eq!(rejected, all, "a rule without a recording that breaks it");
}

#[test]
fn every_good_recording_is_accepted() {
    let good = recordings("good");
    assert!(!good.is_empty());
    for (name, recording) in good {
        let report = check(&recording, Budget::default());
        let explained = report.explain(&recording.history.operations).to_string();
        assert!(report.is_clean(), "{name}\n{explained}");
    }
}

#[test]
fn a_recording_is_read_back_as_it_was_written() {
    for (name, recording) in recordings("good").into_iter().chain(recordings("bad")) {
        let mut bytes = Vec::new();
        recording.write(&mut bytes).unwrap();
        assert_eq!(Recording::read(bytes.as_slice()).unwrap(), recording, "{name}");
    }
}

#[test]
fn a_spent_budget_is_neither_clean_nor_a_violation() {
    for (name, recording) in recordings("good") {
        let report = check(&recording, Budget { steps_max: 1, ..Budget::default() });
        assert!(!report.is_clean(), "{name}");
        assert_eq!(report.violations, Vec::new(), "{name}");
        assert!(!report.undecided.is_empty(), "{name}");
    }
}

#[test]
fn a_damaged_recording_is_refused_with_its_line() {
    let header = r#"{"line":"header","about":"x"}"#;
    let call = r#""client":1,"invoked_ns":5,"call":{"call":"read","key":"k"}"#;
    let backwards = format!(
        r#"{{"line":"operation",{call},"outcome":{{"outcome":"ok","at_ns":4,"answer":{{"answer":"no_item"}}}}}}"#
    );
    let crossed = format!(
        r#"{{"line":"operation",{call},"outcome":{{"outcome":"ok","at_ns":6,"answer":{{"answer":"deleted"}}}}}}"#
    );
    let read = |text: String| Recording::read(text.as_bytes()).unwrap_err();
    assert!(matches!(read(String::new()), RecordingError::MisplacedHeader { number: 1 }));
    assert!(matches!(read(format!("{header}\n{header}")), RecordingError::MisplacedHeader { number: 2 }));
    assert!(matches!(read(format!("{header}\n\n{{")), RecordingError::Line { number: 3, .. }));
    let error = read(format!("{header}\n{backwards}"));
    assert!(matches!(error, RecordingError::EndsBeforeItBegins { number: 2 }), "{error}");
    let error = read(format!("{header}\n{crossed}"));
    assert!(matches!(error, RecordingError::AnswerToAnotherCall { number: 2 }), "{error}");
}

#[test]
fn a_report_names_the_operation_that_cannot_be_explained() {
    let (_, recording) = recordings("bad").into_iter().find(|(name, _)| name == "lost_write.jsonl").unwrap();
    let report = check(&recording, Budget::default());
    let text = report.explain(&recording.history.operations).to_string();
    assert!(text.contains("the first answer too many is #2"), "{text}");
    let unknown = Operation {
        client: ClientId(1),
        invoked_ns: 0,
        call: Call::Read { key: Key::new("k") },
        outcome: Outcome::Unknown,
    };
    assert!(unknown.answer_fits_call() && unknown.may_have_happened());
}
