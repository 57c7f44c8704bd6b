//! `GET /api/spaces/checkins`, `/api/spaces/failedcheckins` and `/api/spaces/coworkercharges`: a page of a list in the platform's envelope, or some
//! records by their ids as a bare array.

use axum::{
    body::Body,
    extract::{RawQuery, State},
    http::{HeaderName, HeaderValue, StatusCode},
    response::Response,
};
use serde::Serialize;
use tokio::task::spawn_blocking;
use utoipa::ToSchema;

use super::{
    ApiState,
    auth::{RequestIdentity, require},
    large_lists::{LARGE, LargeBody, LargeTurn},
    listed_entity::{CHECKIN, COWORKER_CHARGE, FAILED_CHECKIN, ListedEntity, key_of},
    page_ends::{ListKey, list_key},
    query::{self, AnswerForm, ReadQuery},
    reply::{Problem, RequestRefusal, json_body, json_bytes},
    shape::{ChargeEntity, CheckinEntity, FailedCheckinEntity},
};
use crate::{
    access::{Right, Role, RoleEntity},
    base::listing::{ListPage, SortDirection},
};

/// Names the parameters of a query that were left out, because they mean nothing here.
const IGNORED: HeaderName = HeaderName::from_static("x-ignored-parameters");

/// The longest list of ignored parameters, in bytes; the rest is cut.
const IGNORED_BYTES: usize = 1000;

/// A page of a list, as the platform sends it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListEnvelope<R> {
    records: Vec<R>,
    current_page: u32,
    current_page_size: u32,
    current_order_field: String,
    /// 0 is ascending, 1 descending.
    current_sort_direction: u8,
    /// From 1; 0 on an empty page.
    first_item: u64,
    last_item: u64,
    total_items: u64,
    total_pages: u64,
    has_next_page: bool,
    has_previous_page: bool,
    // Older clients read the page's number and size under these names.
    page_number: u32,
    page_size: u32,
}

/// What a request asks for, and what its answer needs.
struct AskedList {
    read: ReadQuery,
    key: ListKey,
    turn: Option<LargeTurn>,
}

impl AskedList {
    /// Reads a request for a list of this entity, of a user with the role for it.
    async fn read(
        api: &ApiState,
        shown: &RequestIdentity,
        (entity, role): (&'static ListedEntity, RoleEntity),
        query: Option<&str>,
    ) -> Result<Self, RequestRefusal> {
        let user = require(api, shown, Role::of(role, Right::List)).await?;
        let now = api.clock.now();
        let mut read = query::read(entity, query.unwrap_or_default(), now.wall)?;
        read.query.businesses = user.reach.only().cloned();
        let key = list_key([&user.name.to_string(), &format!("{:?}", shown.caller), entity.prefix, &read.list]);
        if read.form == AnswerForm::Envelope && read.query.order.has_places() {
            read.query.after = api.page_ends().begin(&key, read.query.page, now.boot);
        }
        let turn = api.large_lists.turn(read.query.size).await?;
        Ok(Self { read, key, turn })
    }

    /// The answer with this page, which `body` puts together.
    async fn answer<T: Send + 'static>(
        self,
        api: &ApiState,
        page: ListPage<T>,
        body: impl FnOnce(&ReadQuery, &ListPage<T>) -> Vec<u8> + Send + 'static,
    ) -> Result<Response, RequestRefusal> {
        let Self { read, key, turn } = self;
        if let Some(end) = page.end.filter(|_| read.form == AnswerForm::Envelope) {
            api.page_ends().note(key, read.query.page, end, api.clock.now().boot);
        }
        let turn = turn.filter(|_| page.records.len() > LARGE as usize);
        let (bytes, read) = if turn.is_some() {
            // Ten thousand records take longer than a tap may wait.
            let built = spawn_blocking(move || (body(&read, &page), read)).await;
            built.map_err(|_| Problem::Broken)?
        } else {
            (body(&read, &page), read)
        };
        let body = match turn {
            Some(turn) => Body::new(LargeBody::new(bytes.into(), turn)),
            None => Body::from(bytes),
        };
        Ok(named_ignored(json_body(StatusCode::OK, body), &read.ignored))
    }
}

pub(super) async fn checkins(
    State(api): State<ApiState>,
    shown: RequestIdentity,
    RawQuery(query): RawQuery,
) -> Result<Response, RequestRefusal> {
    let asked = AskedList::read(&api, &shown, (&CHECKIN, RoleEntity::Checkin), query.as_deref()).await?;
    let page = api.store()?.checkin_page(&asked.read.query).await?;
    asked.answer(&api, page, |read, page| body(read, page, CheckinEntity::from)).await
}

pub(super) async fn failed_checkins(
    State(api): State<ApiState>,
    shown: RequestIdentity,
    RawQuery(query): RawQuery,
) -> Result<Response, RequestRefusal> {
    let asked = AskedList::read(&api, &shown, (&FAILED_CHECKIN, RoleEntity::FailedCheckin), query.as_deref()).await?;
    let page = api.store()?.failed_checkin_page(&asked.read.query).await?;
    asked.answer(&api, page, |read, page| body(read, page, FailedCheckinEntity::from)).await
}

pub(super) async fn charges(
    State(api): State<ApiState>,
    shown: RequestIdentity,
    RawQuery(query): RawQuery,
) -> Result<Response, RequestRefusal> {
    let asked = AskedList::read(&api, &shown, (&COWORKER_CHARGE, RoleEntity::CoworkerCharge), query.as_deref()).await?;
    let page = api.store()?.charge_page(&asked.read.query).await?;
    let now = api.clock.now().wall;
    asked.answer(&api, page, move |read, page| body(read, page, |charge| ChargeEntity::of(charge, now))).await
}

/// The page in its envelope; bare, if it was asked for by ids.
fn body<'a, T, R: Serialize>(
    ReadQuery { query, form, .. }: &ReadQuery,
    page: &'a ListPage<T>,
    shape: impl Fn(&'a T) -> R,
) -> Vec<u8> {
    let records: Vec<R> = page.records.iter().map(shape).collect();
    match form {
        AnswerForm::Bare => json_bytes(&records),
        AnswerForm::Envelope => {
            let figures = PageFigures {
                page: query.page,
                size: query.size,
                order: key_of(query.order),
                direction: query.direction,
                total: page.total,
                has_next: page.has_more,
            };
            json_bytes(&ListEnvelope::of(figures, records))
        }
    }
}

/// The response, with the parameters that were left out.
pub(super) fn named_ignored(mut response: Response, ignored: &[String]) -> Response {
    if !ignored.is_empty() {
        response.headers_mut().insert(IGNORED, names(ignored));
    }
    response
}

/// What an envelope says about its page.
#[derive(Debug)]
pub(super) struct PageFigures {
    /// From 1.
    pub(super) page: u32,
    /// Records of a full page.
    pub(super) size: u32,
    /// The key of the field that they are sorted by.
    pub(super) order: String,
    /// Which way.
    pub(super) direction: SortDirection,
    /// How many match, on all pages.
    pub(super) total: u64,
    /// Whether another page follows.
    pub(super) has_next: bool,
}

impl<R> ListEnvelope<R> {
    /// The envelope of these records.
    pub(super) fn of(figures: PageFigures, records: Vec<R>) -> Self {
        let PageFigures { page, size, order, direction, total, has_next } = figures;
        let full = u64::from(size);
        let before = u64::from(page.saturating_sub(1)) * full;
        let found = u64::try_from(records.len()).unwrap_or(u64::MAX);
        Self {
            records,
            current_page: page,
            current_page_size: size,
            current_order_field: order,
            current_sort_direction: match direction {
                SortDirection::Ascending => 0,
                SortDirection::Descending => 1,
            },
            first_item: if found == 0 { 0 } else { before + 1 },
            last_item: if found == 0 { 0 } else { before + found },
            total_items: total,
            total_pages: total.div_ceil(full),
            has_next_page: has_next,
            has_previous_page: page > 1,
            page_number: page,
            page_size: size,
        }
    }
}

/// The names in one header: visible ASCII, separated by commas.
fn names(ignored: &[String]) -> HeaderValue {
    let visible = |name: &String| -> String {
        name.chars().map(|c| if c.is_ascii_graphic() && c != ',' { c } else { '?' }).collect()
    };
    let mut text = ignored.iter().map(visible).collect::<Vec<_>>().join(", ");
    text.truncate(IGNORED_BYTES);
    HeaderValue::from_str(&text).expect("visible ASCII")
}
