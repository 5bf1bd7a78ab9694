//! A client of either system, with the same requests to both.

use anyhow::Result;
use bytes::Bytes;

use crate::bench::etcd_client::{EtcdClient, EtcdWatch};
use crate::bench::holdfast_client::{HoldfastClient, HoldfastWatch};

/// One client on one connection.
#[derive(Debug)]
pub(super) enum Client {
    Holdfast(HoldfastClient),
    Etcd(Box<EtcdClient>),
}

impl Client {
    /// Writes a key.
    pub(super) async fn put(&mut self, key: &str, value: Bytes) -> Result<()> {
        match self {
            Self::Holdfast(client) => client.put(key, value).await,
            Self::Etcd(client) => client.put(key, value).await,
        }
    }

    /// Reads a key, linearizably.
    pub(super) async fn get(&mut self, key: &str) -> Result<Bytes> {
        match self {
            Self::Holdfast(client) => client.get(key).await,
            Self::Etcd(client) => client.get(key).await,
        }
    }

    /// Writes many keys in one transaction.
    pub(super) async fn put_all(&mut self, keys: &[String], value: &str) -> Result<()> {
        match self {
            Self::Holdfast(client) => client.put_all(keys, value).await,
            Self::Etcd(client) => client.put_all(keys, value).await,
        }
    }

    /// Opens a session (etcd: a lease), to which the client's locks belong from now on.
    pub(super) async fn open_session(&mut self, ttl_seconds: u32) -> Result<String> {
        match self {
            Self::Holdfast(client) => client.open_session(ttl_seconds).await,
            Self::Etcd(client) => client.open_session(ttl_seconds).await,
        }
    }

    /// Renews a session.
    pub(super) async fn keep_alive(&mut self, session: &str) -> Result<()> {
        match self {
            Self::Holdfast(client) => client.keep_alive(session).await,
            Self::Etcd(client) => client.keep_alive(session).await,
        }
    }

    /// Takes a lock, waiting until it is free. What is returned releases it.
    pub(super) async fn lock(&mut self, name: &str) -> Result<Bytes> {
        match self {
            Self::Holdfast(client) => client.lock(name).await,
            Self::Etcd(client) => client.lock(name).await,
        }
    }

    /// Releases a lock.
    pub(super) async fn unlock(&mut self, held: &Bytes) -> Result<()> {
        match self {
            Self::Holdfast(client) => client.unlock(held).await,
            Self::Etcd(client) => client.unlock(held).await,
        }
    }

    /// Watches all keys with a prefix.
    pub(super) async fn watch(self, prefix: &str) -> Result<Watch> {
        match self {
            Self::Holdfast(client) => client.watch(prefix).await.map(Watch::Holdfast),
            Self::Etcd(client) => client.watch(prefix).await.map(|watch| Watch::Etcd(Box::new(watch))),
        }
    }
}

/// A stream of changes of either system.
#[derive(Debug)]
pub(super) enum Watch {
    Holdfast(HoldfastWatch),
    Etcd(Box<EtcdWatch>),
}

impl Watch {
    /// Waits for more, and calls `each` with the value of every key that was written.
    pub(super) async fn next(&mut self, each: &mut impl FnMut(&[u8])) -> Result<()> {
        match self {
            Self::Holdfast(watch) => watch.next(each).await,
            Self::Etcd(watch) => watch.next(each).await,
        }
    }
}
