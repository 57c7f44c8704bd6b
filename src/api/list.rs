//! `GET /api/spaces/checkins` and `/api/spaces/failedcheckins`: a page of a list in the platform's envelope, or some
//! records by their ids as a bare array.

use axum::{
    extract::{RawQuery, State},
    http::{HeaderName, HeaderValue, StatusCode},
    response::Response,
};
use serde::Serialize;

use super::{
    ApiState,
    auth::{RequestIdentity, require},
    listed_entity::{CHECKIN, FAILED_CHECKIN, key_of},
    query::{self, AnswerForm, ReadQuery},
    reply::{RequestRefusal, json},
    shape::{CheckinEntity, FailedCheckinEntity},
};
use crate::{
    access::Role,
    store::{ListPage, ListQuery, SortDirection},
};

/// Names the parameters of a query that were left out, because they mean nothing here.
const IGNORED: HeaderName = HeaderName::from_static("x-ignored-parameters");

/// The longest list of ignored parameters, in bytes; the rest is cut.
const IGNORED_BYTES: usize = 1000;

/// A page of a list, as the platform sends it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Envelope<R> {
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

pub(super) async fn checkins(
    State(api): State<ApiState>,
    shown: RequestIdentity,
    RawQuery(query): RawQuery,
) -> Result<Response, RequestRefusal> {
    require(&api, &shown, Role::CheckinList).await?;
    let read = query::read(&CHECKIN, query.as_deref().unwrap_or_default())?;
    let page = api.store()?.checkin_page(&read.query).await?;
    Ok(answer(&read, &page, CheckinEntity::from))
}

pub(super) async fn failed_checkins(
    State(api): State<ApiState>,
    shown: RequestIdentity,
    RawQuery(query): RawQuery,
) -> Result<Response, RequestRefusal> {
    require(&api, &shown, Role::FailedCheckinList).await?;
    let read = query::read(&FAILED_CHECKIN, query.as_deref().unwrap_or_default())?;
    let page = api.store()?.failed_checkin_page(&read.query).await?;
    Ok(answer(&read, &page, FailedCheckinEntity::from))
}

/// The page in its envelope; bare, if it was asked for by ids.
fn answer<'a, T, R: Serialize>(
    ReadQuery { query, form, ignored }: &ReadQuery,
    page: &'a ListPage<T>,
    shape: impl Fn(&'a T) -> R,
) -> Response {
    let records: Vec<R> = page.records.iter().map(shape).collect();
    let mut response = match form {
        AnswerForm::Bare => json(StatusCode::OK, &records),
        AnswerForm::Envelope => json(StatusCode::OK, &envelope(query, records, page.total)),
    };
    if !ignored.is_empty() {
        response.headers_mut().insert(IGNORED, names(ignored));
    }
    response
}

fn envelope<R>(query: &ListQuery, records: Vec<R>, total: u64) -> Envelope<R> {
    let size = u64::from(query.size);
    let before = u64::from(query.page.saturating_sub(1)) * size;
    let found = u64::try_from(records.len()).unwrap_or(u64::MAX);
    Envelope {
        records,
        current_page: query.page,
        current_page_size: query.size,
        current_order_field: key_of(query.order),
        current_sort_direction: match query.direction {
            SortDirection::Ascending => 0,
            SortDirection::Descending => 1,
        },
        first_item: if found == 0 { 0 } else { before + 1 },
        last_item: if found == 0 { 0 } else { before + found },
        total_items: total,
        total_pages: total.div_ceil(size),
        has_next_page: before + found < total && found > 0,
        has_previous_page: query.page > 1,
        page_number: query.page,
        page_size: query.size,
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
