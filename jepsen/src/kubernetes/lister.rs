//! Lists: all objects of a kind at one revision, in pages, as Kubernetes reads them.

use bytes::Bytes;
use cairn_engine::api::etcdserverpb::RangeRequest;
use cairn_engine::api::mvccpb::KeyValue;

use super::history::{Listing, Sight, What};
use super::objects::{Kind, Objects};
use super::store::Store;
use crate::Trouble;
use crate::world::connection::wrong;

/// Lists the objects of a kind. The store may crash between two pages.
pub(super) async fn list(store: &Store, objects: &Objects, kind: Kind) -> Result<Listing, Trouble> {
    let mut listing = Listing { revision: 0, sights: Vec::new() };
    let mut key = Bytes::from(kind.prefix());
    loop {
        let page = RangeRequest {
            key,
            range_end: kind.end().into(),
            limit: PAGE_OBJECTS,
            revision: listing.revision,
            ..RangeRequest::default()
        };
        let page = store.range(page).await?;
        if listing.revision == 0 {
            listing.revision = page.header.ok_or_else(|| wrong("a header"))?.revision;
        }
        for kv in &page.kvs {
            listing.sights.push(sight(objects, kv)?);
        }
        let Some(last) = page.kvs.last().filter(|_| page.more) else { return Ok(listing) };
        // The next page begins right behind the last key.
        key = [&last.key[..], &[0]].concat().into();
    }
}

/// What a key and its value show.
pub(super) fn sight(objects: &Objects, kv: &KeyValue) -> Result<Sight, Trouble> {
    let unknown = || Trouble(format!("a key that nobody wrote: {:?}", kv.key));
    let object = objects.object(&kv.key).ok_or_else(unknown)?;
    let what = objects.attempt(object, &kv.value).map_or(What::Garbage, What::Value);
    Ok(Sight { object, revision: kv.mod_revision, what })
}

const PAGE_OBJECTS: i64 = 500;
