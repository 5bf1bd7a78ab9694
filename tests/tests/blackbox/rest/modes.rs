//! Shared locks, semaphores, and waits that would never end.

use std::time::Duration;

use serde_json::{Value, json};

use super::fixture::{Door, Fixture};
use super::wire::{Ask, Reply, ask};

const NAMESPACE: &str = "/v1/namespaces/default";

/// Claims of one lock, under names of the door that the test uses.
struct Lock<'d> {
    door: &'d Door,
    path: String,
}

impl<'d> Lock<'d> {
    fn new(door: &'d Door, name: &str) -> Self {
        Self { door, path: format!("{NAMESPACE}/locks/{name}%2F{}", door.via) }
    }

    fn claim(&self, id: &str) -> String {
        format!("{}/claims/{id}", self.path)
    }

    fn put(&self, id: &str, body: &Value) -> Ask {
        ask("PUT", self.claim(id)).json(body)
    }

    async fn takes(&self, id: &str, body: &Value) -> Value {
        self.door.send(self.put(id, body)).await.expect(201).value()
    }

    async fn waits(&self, id: &str, body: &Value) -> Value {
        let mut body = body.clone();
        body["keep_waiting"] = json!(true);
        self.door.send(self.put(id, &body)).await.expect(202).value()
    }

    async fn lets_go(&self, id: &str) {
        self.door.send(ask("DELETE", self.claim(id))).await.expect(204);
    }

    async fn state(&self, id: &str) -> Value {
        self.door.send(ask("GET", self.claim(id))).await.expect(200).value()["state"].clone()
    }

    async fn view(&self) -> Value {
        self.door.send(ask("GET", &self.path)).await.expect(200).value()
    }
}

fn shared() -> Value {
    json!({ "ttl_ms": 600_000, "mode": "shared" })
}

fn permits(permits: u64, of: u64) -> Value {
    json!({ "ttl_ms": 600_000, "mode": "permits", "permits": permits, "of": of })
}

fn exclusive() -> Value {
    json!({ "ttl_ms": 600_000 })
}

fn tokens(view: &Value) -> Vec<u64> {
    let holders = view["holders"].as_array().expect("holders");
    holders.iter().map(|holder| holder["fencing_token"].as_u64().expect("a token")).collect()
}

#[tokio::test]
async fn shared_holders_share_and_never_pass_an_exclusive_one_that_waits() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        let lock = Lock::new(&door, "shared");
        lock.takes("a", &shared()).await;
        lock.takes("b", &shared()).await;
        let view = lock.view().await;
        assert_eq!(view["mode"], "shared");
        let tokens = tokens(&view);
        assert!(tokens.len() == 2 && tokens[0] < tokens[1], "{view}");
        door.send(lock.put("x", &exclusive())).await.refused(409, "lock-held");

        assert_eq!(lock.waits("x", &exclusive()).await["position"], 1);
        // One that would fit waits behind the exclusive one: a stream of them cannot starve it.
        let refused = door.send(lock.put("c", &shared())).await.refused(409, "lock-held");
        assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("1 wait")), "{refused}");
        assert_eq!(lock.waits("c", &shared()).await["position"], 2);
        assert_eq!(lock.waits("d", &shared()).await["position"], 3);
        let queue = lock.view().await["queue"].clone();
        assert_eq!((&queue[0]["mode"], &queue[1]["mode"]), (&json!("exclusive"), &json!("shared")));
        lock.lets_go("a").await;
        assert_eq!(lock.state("x").await, "queued");
        lock.lets_go("b").await;
        assert_eq!(lock.state("x").await, "held");
        assert_eq!(lock.view().await["mode"], "exclusive");
        lock.lets_go("x").await;
        let view = lock.view().await;
        assert_eq!((view["holders"].as_array().map(Vec::len), &view["queue"]), (Some(2), &json!([])));
        lock.lets_go("c").await;
        lock.lets_go("d").await;
    }
}

#[tokio::test]
async fn permits_are_counted_and_their_number_is_fixed_while_they_are_used() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        let lock = Lock::new(&door, "permits");
        lock.takes("a", &permits(2, 3)).await;
        let busy = door.send(lock.put("b", &permits(2, 3))).await.refused(409, "lock-held");
        let holder = &busy["holders"][0];
        assert_eq!((&holder["mode"], &holder["permits"]), (&json!("permits"), &json!(2)));
        lock.takes("c", &permits(1, 3)).await;
        let view = lock.view().await;
        assert_eq!((&view["mode"], &view["permits"], &view["of"]), (&json!("permits"), &json!(3), &json!(3)));
        for other in [permits(1, 4), shared(), exclusive()] {
            let refused = door.send(lock.put("d", &other)).await.refused(409, "lock-mode-conflict");
            assert!(
                refused["detail"].as_str().is_some_and(|detail| detail.contains("3 permits")),
                "{refused}"
            );
        }
        // A large one that waits first is not passed by a small one that would fit.
        lock.waits("large", &permits(3, 3)).await;
        lock.waits("small", &permits(1, 3)).await;
        lock.lets_go("c").await;
        assert_eq!(
            (lock.state("large").await, lock.state("small").await),
            (json!("queued"), json!("queued"))
        );
        lock.lets_go("a").await;
        assert_eq!((lock.state("large").await, lock.state("small").await), (json!("held"), json!("queued")));
        lock.lets_go("large").await;
        lock.lets_go("small").await;
        // Nobody uses it any more, so it forgets what it was.
        lock.takes("e", &exclusive()).await;
        lock.lets_go("e").await;
    }
}

#[tokio::test]
async fn a_claim_replayed_with_another_mode_is_another_claim() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        let lock = Lock::new(&door, "replayed-mode");
        let first = lock.takes("a", &permits(2, 3)).await;
        let again = door.send(lock.put("a", &permits(2, 3))).await.expect(200).value();
        assert_eq!(again["fencing_token"], first["fencing_token"]);
        door.send(lock.put("a", &permits(1, 3))).await.refused(409, "claim-conflict");
        door.send(lock.put("a", &shared())).await.refused(409, "claim-conflict");
        lock.lets_go("a").await;
    }
}

#[tokio::test]
async fn a_wait_that_would_never_end_is_refused_with_the_circle() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        let (one, two) = (Lock::new(&door, "circle-one"), Lock::new(&door, "circle-two"));
        let [ann, bob] = ["ann", "bob"].map(|name| format!("{name}-{}", door.via));
        for session in [&ann, &bob] {
            door.session(session).await;
        }
        let of = |session: &str| json!({ "session": session });
        one.takes("ann", &of(&ann)).await;
        two.takes("bob", &of(&bob)).await;
        two.waits("ann", &of(&ann)).await;
        let waiting = json!({ "session": bob, "wait_ms": 60_000 });
        let refused = door.send(one.put("bob", &waiting)).await.refused(409, "would-deadlock");
        let stuck: Vec<_> = refused["stuck"].as_array().expect("who is stuck").clone();
        let wait = |session: &str, lock: &str| {
            json!({
                "session": session,
                "namespace": "default",
                "waits_for": { "lock": format!("{lock}/{}", door.via) },
            })
        };
        assert_eq!(stuck, [wait(&bob, "circle-one"), wait(&ann, "circle-two")]);
        // A session cannot wait for itself either.
        let again = json!({ "session": bob, "keep_waiting": true });
        let own = door.send(two.put("again", &again)).await.refused(409, "would-deadlock");
        assert_eq!(own["stuck"].as_array().map(Vec::len), Some(2));
        // Nothing is left of the refused claim: when nobody is stuck any more, its id is as good as new.
        one.lets_go("ann").await;
        one.takes("bob", &of(&bob)).await;
        for session in [&ann, &bob] {
            door.send(ask("DELETE", format!("/v1/sessions/{session}"))).await.expect(204);
        }
    }
}

#[tokio::test]
async fn a_set_gets_all_of_its_locks_at_once_or_waits_without_any() {
    let fixture = Fixture::shared().await;
    let [follower, leader] = fixture.both().await;
    for (door, other_door) in [(&follower, &leader), (&leader, &follower)] {
        let (one, two) = (Lock::new(door, "set-one"), Lock::new(door, "set-two"));
        let [own, other] = ["set-own", "set-other"].map(|name| format!("{name}-{}", door.via));
        for session in [&own, &other] {
            door.session(session).await;
        }
        let set = |id: &str| format!("{NAMESPACE}/lock-sets/{id}-{}", door.via);
        let [name_one, name_two] = ["set-one", "set-two"].map(|name| format!("{name}/{}", door.via));
        let locks = json!([{ "name": name_two, "mode": "shared" }, { "name": name_one }]);
        let body = json!({ "session": own, "locks": locks });
        let taken = |reply: Reply| {
            let view = reply.value();
            let locks = view["locks"].as_array().expect("locks").clone();
            assert_eq!((&locks[0]["name"], &locks[1]["name"]), (&json!(name_one), &json!(name_two)));
            [0, 1].map(|at| locks[at]["fencing_token"].as_u64().expect("a token"))
        };

        let first = taken(door.send(ask("PUT", set("first")).json(&body)).await.expect(201));
        assert!(first[0] < first[1]);
        let again = taken(other_door.send(ask("PUT", set("first")).json(&body)).await.expect(200));
        assert_eq!(again, first);
        assert_eq!(taken(other_door.send(ask("GET", set("first"))).await.expect(200)), first);
        let another = json!({ "session": own, "locks": [{ "name": name_one }] });
        door.send(ask("PUT", set("first")).json(&another)).await.refused(409, "claim-conflict");

        // A part is a claim of its lock, by the set's id.
        let part = format!("first-{}", door.via);
        assert_eq!(
            (one.state(&part).await, two.view().await["mode"].clone()),
            (json!("held"), json!("shared"))
        );
        two.takes("beside", &json!({ "session": other, "mode": "shared" })).await;
        let of_other = json!({ "session": other, "locks": [{ "name": name_one }, { "name": name_two }] });
        let refused = door.send(ask("PUT", set("second")).json(&of_other)).await.refused(409, "lock-held");
        assert!(refused["detail"].as_str().is_some_and(|told| told.contains(&name_one)), "{refused}");

        // A set that waits holds nothing, but keeps its places.
        two.lets_go("beside").await;
        let mut waits = of_other.clone();
        waits["wait_ms"] = json!(60_000);
        let waiting = {
            let request = ask("PUT", set("second")).json(&waits);
            let door = (*door).clone();
            tokio::spawn(async move { door.send(request).await })
        };
        loop {
            let queued = other_door.send(ask("GET", set("second"))).await;
            if queued.status == 200 {
                let view = queued.value();
                assert_eq!(view["state"], "queued");
                assert_eq!(
                    (&view["locks"][0]["position"], &view["locks"][1]["position"]),
                    (&json!(1), &json!(1))
                );
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Losing one part ends the set, and what waits gets both at once.
        one.lets_go(&part).await;
        assert_eq!(two.state(&part).await, "released");
        let over = door.send(ask("GET", set("first"))).await.expect(200).value();
        assert_eq!((&over["state"], &over["reason"]), (&json!("released"), &json!("released")));
        door.send(ask("PUT", set("first")).json(&body)).await.refused(410, "claim-ended");
        let second = taken(waiting.await.expect("the request ends").expect(201));
        assert!(first[1] < second[0] && second[0] < second[1]);
        door.send(ask("DELETE", set("second"))).await.expect(204);
        door.send(ask("DELETE", set("second"))).await.expect(204);
        door.send(ask("GET", set("never"))).await.refused(404, "claim-not-found");

        let short = json!({ "session": own, "locks": locks, "wait_ms": 50 });
        one.takes("holder", &json!({ "session": other })).await;
        door.send(ask("PUT", set("short")).json(&short)).await.refused(408, "wait-timeout");
        assert_eq!(two.view().await["queue"], json!([]));
        let keeps = json!({ "session": own, "locks": locks, "keep_waiting": true });
        let kept = door.send(ask("PUT", set("kept")).json(&keeps)).await.expect(202).value();
        assert_eq!(kept["locks"][1], json!({ "name": name_two, "position": 1 }));
        // The keepalive tells of each part.
        let alive = door.send(ask("POST", format!("/v1/sessions/{own}/keepalive"))).await.expect(200).value();
        assert_eq!(alive["claims"].as_array().map(Vec::len), Some(2), "{alive}");
        for session in [&own, &other] {
            door.send(ask("DELETE", format!("/v1/sessions/{session}"))).await.expect(204);
        }
        let left = door.send(ask("GET", set("kept"))).await.expect(200).value();
        assert_eq!((&left["state"], &left["reason"]), (&json!("released"), &json!("left-queue")));
    }
}
