//! Waiting for a condition, with a deadline and a memory of what was seen last.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Pause between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// One look at a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen<T> {
    /// It holds.
    Ready(T),
    /// It does not; this is how things are.
    NotYet(String),
}

/// Looks until the condition holds or `limit` has passed. The error names the condition and the last look.
pub async fn poll<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Seen<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match look().await {
            Seen::Ready(value) => return Ok(value),
            Seen::NotYet(seen) if deadline <= Instant::now() => {
                bail!("waited {limit:?} for {what}; last seen: {seen}")
            }
            Seen::NotYet(_) => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn polling_ends_when_the_condition_holds() {
        let mut looks = 0;
        let value = poll("three looks", Duration::from_secs(10), async || {
            looks += 1;
            if looks == 3 { Seen::Ready(looks) } else { Seen::NotYet(format!("look {looks}")) }
        });
        assert_eq!(value.await.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_passed_deadline_tells_what_was_seen_last() {
        let never =
            poll::<()>("a leader", Duration::ZERO, async || Seen::NotYet("phase electing".to_owned()));
        let message = never.await.unwrap_err().to_string();
        assert_eq!(message, "waited 0ns for a leader; last seen: phase electing");
    }
}
