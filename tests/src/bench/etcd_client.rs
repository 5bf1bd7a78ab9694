//! One client of etcd on one connection, by gRPC.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures_util::stream;
use http::uri::PathAndQuery;
use tokio::sync::mpsc;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Streaming};
use tonic_prost::ProstCodec;

use crate::bench::etcd_message::{
    Done, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LockRequest,
    LockResponse, PutRequest, RangeRequest, RangeResponse, RequestOp, StatusResponse, TxnRequest,
    UnlockRequest, WatchCreateRequest, WatchRequest, WatchResponse,
};

const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// A client of etcd.
#[derive(Debug)]
pub(super) struct EtcdClient {
    grpc: Grpc<Channel>,
    /// The lease that its locks belong to.
    lease: Option<i64>,
    keepalives: Option<KeepAlives>,
}

#[derive(Debug)]
struct KeepAlives {
    asking: mpsc::UnboundedSender<LeaseKeepAliveRequest>,
    answers: Streaming<LeaseKeepAliveResponse>,
}

impl EtcdClient {
    pub(super) fn new(client: SocketAddr) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{client}"))?;
        let channel = endpoint.tcp_nodelay(true).connect_timeout(CONNECT_LIMIT).connect_lazy();
        Ok(Self { grpc: Grpc::new(channel), lease: None, keepalives: None })
    }

    async fn call<Q, A>(&mut self, path: &'static str, request: Q) -> Result<A>
    where
        Q: prost::Message + Default + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        self.grpc.ready().await?;
        let path = PathAndQuery::from_static(path);
        Ok(self.grpc.unary(Request::new(request), path, ProstCodec::<Q, A>::default()).await?.into_inner())
    }

    async fn stream<Q, A>(
        &mut self,
        path: &'static str,
        asking: mpsc::UnboundedReceiver<Q>,
    ) -> Result<Streaming<A>>
    where
        Q: prost::Message + Default + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let requests = stream::unfold(asking, async |mut asking| Some((asking.recv().await?, asking)));
        self.grpc.ready().await?;
        let path = PathAndQuery::from_static(path);
        Ok(self
            .grpc
            .streaming(Request::new(requests), path, ProstCodec::<Q, A>::default())
            .await?
            .into_inner())
    }

    /// Whether the member that answers leads.
    pub(super) async fn leads(&mut self) -> Result<bool> {
        let status: StatusResponse = self.call("/etcdserverpb.Maintenance/Status", Done {}).await?;
        Ok(status.header.is_some_and(|header| header.member_id == status.leader))
    }

    pub(super) async fn put(&mut self, key: &str, value: Bytes) -> Result<()> {
        let request = PutRequest { key: key.to_owned().into(), value };
        self.call::<_, Done>("/etcdserverpb.KV/Put", request).await.map(drop)
    }

    pub(super) async fn get(&mut self, key: &str) -> Result<Bytes> {
        let request = RangeRequest { key: key.to_owned().into() };
        let found: RangeResponse = self.call("/etcdserverpb.KV/Range", request).await?;
        Ok(found.kvs.into_iter().next().with_context(|| format!("no key {key}"))?.value)
    }

    pub(super) async fn put_all(&mut self, keys: &[String], value: &str) -> Result<()> {
        let value = Bytes::from(value.to_owned());
        let put = |key: &String| PutRequest { key: key.clone().into(), value: value.clone() };
        let success = keys.iter().map(|key| RequestOp { put: Some(put(key)) }).collect();
        self.call::<_, Done>("/etcdserverpb.KV/Txn", TxnRequest { success }).await.map(drop)
    }

    pub(super) async fn open_session(&mut self, ttl_seconds: u32) -> Result<String> {
        let request = LeaseGrantRequest { ttl: ttl_seconds.into() };
        let granted: LeaseGrantResponse = self.call("/etcdserverpb.Lease/LeaseGrant", request).await?;
        self.lease = Some(granted.id);
        Ok(granted.id.to_string())
    }

    /// Renews a lease on the stream that this client keeps open for all its leases, as etcd's own client does.
    pub(super) async fn keep_alive(&mut self, lease: &str) -> Result<()> {
        let id = lease.parse()?;
        let stream = match &mut self.keepalives {
            Some(open) => open,
            None => {
                let (asking, asked) = mpsc::unbounded_channel();
                // The server answers a stream's head with its first message.
                asking.send(LeaseKeepAliveRequest { id })?;
                let answers = self.stream("/etcdserverpb.Lease/LeaseKeepAlive", asked).await?;
                let open = self.keepalives.insert(KeepAlives { asking, answers });
                return answered(&mut open.answers, id).await;
            }
        };
        stream.asking.send(LeaseKeepAliveRequest { id })?;
        answered(&mut stream.answers, id).await
    }

    pub(super) async fn lock(&mut self, name: &str) -> Result<Bytes> {
        let lease = self.lease.context("a client that locks has a lease")?;
        let request = LockRequest { name: name.to_owned().into(), lease };
        let held: LockResponse = self.call("/v3lockpb.Lock/Lock", request).await?;
        Ok(held.key)
    }

    pub(super) async fn unlock(&mut self, key: &Bytes) -> Result<()> {
        self.call::<_, Done>("/v3lockpb.Lock/Unlock", UnlockRequest { key: key.clone() }).await.map(drop)
    }

    pub(super) async fn watch(mut self, prefix: &str) -> Result<EtcdWatch> {
        let (asking, asked) = mpsc::unbounded_channel();
        let mut range_end = prefix.as_bytes().to_vec();
        // The end of a prefix is the prefix with its last byte one higher.
        let last = range_end.last_mut().context("a prefix that is not empty")?;
        *last += 1;
        let create = WatchCreateRequest { key: prefix.to_owned().into(), range_end: range_end.into() };
        asking.send(WatchRequest { create: Some(create) })?;
        let mut answers = self.stream("/etcdserverpb.Watch/Watch", asked).await?;
        let first: Option<WatchResponse> = answers.message().await?;
        ensure!(first.is_some_and(|first| first.created), "the watch was not created");
        Ok(EtcdWatch { answers, _asking: asking, _client: self })
    }
}

async fn answered(answers: &mut Streaming<LeaseKeepAliveResponse>, id: i64) -> Result<()> {
    let answer = answers.message().await?.context("the stream of keepalives has ended")?;
    ensure!(answer.id == id && 0 < answer.ttl, "lease {id} was answered {answer:?}");
    Ok(())
}

/// A stream of changes.
#[derive(Debug)]
pub(super) struct EtcdWatch {
    answers: Streaming<WatchResponse>,
    _asking: mpsc::UnboundedSender<WatchRequest>,
    _client: EtcdClient,
}

impl EtcdWatch {
    /// Waits for more, and calls `each` with the value of every key that was written.
    pub(super) async fn next(&mut self, each: &mut impl FnMut(&[u8])) -> Result<()> {
        let answer = self.answers.message().await?.context("the watch has ended")?;
        if answer.canceled {
            bail!("the watch was cancelled");
        }
        answer.events.iter().filter_map(|event| event.kv.as_ref()).for_each(|kv| each(&kv.value));
        Ok(())
    }
}
