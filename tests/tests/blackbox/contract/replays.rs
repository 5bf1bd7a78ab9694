//! L8 and L10: a repeated request gets the first answer, and a guard holds in the moment of the write.

use std::time::Duration;

use anyhow::{Context, Result};
use holdfast_tests::harness::Cluster;

use crate::contract::api::{Api, Reply};
use crate::contract::trial::{Failure, Verdict, breach, caught, kept, vacuous};

const TTL_MS: u64 = 60_000;
/// Races of a guarded write against the end of its guard.
const RACES: u64 = 60;

#[tokio::test]
async fn l8_a_replay_gets_the_first_answer() -> Result<()> {
    kept(l8).await
}

#[tokio::test]
async fn l8_a_replay_that_is_evaluated_again_is_caught() -> Result<()> {
    caught("replay-reevaluated", l8).await
}

async fn l8(cluster: &mut Cluster) -> Verdict {
    let apis = Api::of_all(cluster)?;
    claims_replay(&apis).await?;
    keyed_writes_replay(&apis).await?;
    // The first answers are part of the state: another leader gives them too.
    let leader = cluster.wait_leader().await?;
    cluster.node_mut(leader).restart()?;
    cluster.wait_serving().await?;
    keyed_put_replays_again(&apis).await
}

async fn claims_replay(apis: &[Api]) -> Verdict {
    apis[0].open_session("owner", TTL_MS).await?;
    let first = apis[0].try_lock("l", "c", "owner").await?.expect(201)?;
    for api in apis {
        let again = api.try_lock("l", "c", "owner").await?;
        if again.status != 200 || again.token()? != first.token()? {
            return Err(breach(format!("a claim answered {first:?} replays as {again:?}")));
        }
    }
    apis[1].release("l", "c").await?;
    for api in apis {
        api.release("l", "c").await?;
        let again = api.try_lock("l", "c", "owner").await?;
        if again.status != 410 || again.code() != "claim-ended" || again.text("reason") != "released" {
            return Err(breach(format!("a released claim replays as {again:?}")));
        }
    }
    Ok(())
}

const KEYED_PUT: [(&str, &str); 2] = [("idempotency-key", "put-1"), ("if-none-match", "*")];

async fn keyed_writes_replay(apis: &[Api]) -> Verdict {
    let first = apis[0].put_config("k", "one", &KEYED_PUT).await?.expect(201)?;
    let [put, refused] = [("idempotency-key", "put-2"), ("idempotency-key", "put-3")];
    let second = apis[0].put_config("k", "two", &[put]).await?.expect(200)?;
    let refusal = apis[0].put_config("k", "three", &[refused, ("if-none-match", "*")]).await?.expect(412)?;
    for api in apis {
        same_answer(&first, &api.put_config("k", "one", &KEYED_PUT).await?)?;
        same_answer(&second, &api.put_config("k", "two", &[put]).await?)?;
    }
    let other = apis[1].put_config("k", "another value", &KEYED_PUT).await?;
    if other.status != 422 {
        return Err(breach(format!("another request under a used key was answered {other:?}")));
    }
    let delete = [("idempotency-key", "delete-1"), ("if-match", &*format!("\"{}\"", etag(&second)?))];
    let deleted = apis[2].delete_config("k", &delete).await?.expect(204)?;
    for api in apis {
        same_answer(&deleted, &api.delete_config("k", &delete).await?)?;
        // The key is absent by now, so evaluating the refused write again would write it.
        same_answer(&refusal, &api.put_config("k", "three", &[refused, ("if-none-match", "*")]).await?)?;
        api.config("k").await?.expect(404)?;
    }
    Ok(())
}

async fn keyed_put_replays_again(apis: &[Api]) -> Verdict {
    for api in apis {
        let again = api.put_config("k", "one", &KEYED_PUT).await?;
        if again.status != 201 {
            return Err(breach(format!("after a change of leader the write replays as {again:?}")));
        }
        api.config("k").await?.expect(404)?;
    }
    Ok(())
}

fn same_answer(first: &Reply, again: &Reply) -> Result<(), Failure> {
    let told = |reply: &Reply| (reply.status, reply.etag, reply.code().to_owned());
    if told(first) != told(again) {
        return Err(breach(format!("{first:?} replays as {again:?}")));
    }
    Ok(())
}

fn etag(reply: &Reply) -> Result<u64> {
    reply.etag.with_context(|| format!("no ETag in {reply:?}"))
}

#[tokio::test]
async fn l10_a_guarded_write_is_atomic_with_its_guard() -> Result<()> {
    kept(l10).await
}

#[tokio::test]
async fn l10_a_guard_checked_before_the_proposal_is_caught() -> Result<()> {
    caught("guard-before-propose", l10).await
}

/// Races guarded writes against the forced release of their lock: no write has a later revision than the release, and
/// none succeeds after it.
async fn l10(cluster: &mut Cluster) -> Verdict {
    let apis = Api::of_all(cluster)?;
    apis[0].open_session("owner", TTL_MS).await?;
    let (mut written, mut refused) = (0, 0);
    for race in 0..RACES {
        let token = apis[0].try_lock("l", &format!("c{race}"), "owner").await?.expect(201)?.token()?;
        let guard = format!("lock=l; token={token}");
        // Either one first, by a lead of up to several commits.
        let lead = Duration::from_millis(race / 2 % 10);
        let (write_after, release_after) =
            if race % 2 == 0 { (Duration::ZERO, lead) } else { (lead, Duration::ZERO) };
        let write = {
            let (api, guard) = (apis[1].clone(), guard.clone());
            tokio::spawn(async move {
                tokio::time::sleep(write_after).await;
                api.put_config("k", "guarded", &[("holdfast-guard", guard.as_str())]).await
            })
        };
        tokio::time::sleep(release_after).await;
        let released = apis[2].force_release("l", token).await?.expect(200)?;
        let released = released.body["revision"].as_u64().context("a release without a revision")?;
        let raced = write.await.context("the write panicked")??;
        if raced.is_success() {
            written += 1;
            let at = etag(&raced)?;
            if released < at {
                return Err(breach(format!("token {token} ended at {released} and wrote at {at}")));
            }
        } else if raced.status == 412 && raced.code() == "stale-token" {
            refused += 1;
        } else {
            return Err(vacuous(format!("a guarded write was answered {raced:?}")));
        }
        let late = apis[1].put_config("k", "late", &[("holdfast-guard", guard.as_str())]).await?;
        if late.status != 412 {
            return Err(breach(format!("the last token of a free lock wrote: {late:?}")));
        }
    }
    if written == 0 || refused == 0 {
        return Err(vacuous(format!("no race: {written} writes before the release, {refused} after")));
    }
    Ok(())
}
