//! `GET /api/spaces/checkins`, `/api/spaces/failedcheckins` and `/api/spaces/coworkercharges`: a page of a list in the platform's envelope, or some
//! records by their ids as a bare array.

use axum::{
    extract::{RawQuery, State},
    http::{HeaderName, HeaderValue, StatusCode},
    response::Response,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    ApiState,
    auth::{RequestIdentity, require},
    listed_entity::{CHECKIN, COWORKER_CHARGE, FAILED_CHECKIN, key_of},
    query::{self, AnswerForm, ReadQuery},
    reply::{RequestRefusal, json},
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

pub(super) async fn checkins(
    State(api): State<ApiState>,
    shown: RequestIdentity,
    RawQuery(query): RawQuery,
) -> Result<Response, RequestRefusal> {
    let user = require(&api, &shown, Role::of(RoleEntity::Checkin, Right::List)).await?;
    let mut read = query::read(&CHECKIN, query.as_deref().unwrap_or_default(), api.clock.now().wall)?;
    read.query.businesses = user.reach.only().cloned();
    let page = api.store()?.checkin_page(&read.query).await?;
    Ok(answer(&read, &page, CheckinEntity::from))
}

pub(super) async fn failed_checkins(
    State(api): State<ApiState>,
    shown: RequestIdentity,
    RawQuery(query): RawQuery,
) -> Result<Response, RequestRefusal> {
    let user = require(&api, &shown, Role::of(RoleEntity::FailedCheckin, Right::List)).await?;
    let mut read = query::read(&FAILED_CHECKIN, query.as_deref().unwrap_or_default(), api.clock.now().wall)?;
    read.query.businesses = user.reach.only().cloned();
    let page = api.store()?.failed_checkin_page(&read.query).await?;
    Ok(answer(&read, &page, FailedCheckinEntity::from))
}

pub(super) async fn charges(
    State(api): State<ApiState>,
    shown: RequestIdentity,
    RawQuery(query): RawQuery,
) -> Result<Response, RequestRefusal> {
    let user = require(&api, &shown, Role::of(RoleEntity::CoworkerCharge, Right::List)).await?;
    let now = api.clock.now().wall;
    let mut read = query::read(&COWORKER_CHARGE, query.as_deref().unwrap_or_default(), now)?;
    read.query.businesses = user.reach.only().cloned();
    let page = api.store()?.charge_page(&read.query).await?;
    Ok(answer(&read, &page, |charge| ChargeEntity::of(charge, now)))
}

/// The page in its envelope; bare, if it was asked for by ids.
fn answer<'a, T, R: Serialize>(
    ReadQuery { query, form, ignored }: &ReadQuery,
    page: &'a ListPage<T>,
    shape: impl Fn(&'a T) -> R,
) -> Response {
    let records: Vec<R> = page.records.iter().map(shape).collect();
    let response = match form {
        AnswerForm::Bare => json(StatusCode::OK, &records),
        AnswerForm::Envelope => {
            let figures = PageFigures {
                page: query.page,
                size: query.size,
                order: key_of(query.order),
                direction: query.direction,
                total: page.total,
            };
            json(StatusCode::OK, &ListEnvelope::of(figures, records))
        }
    };
    named_ignored(response, ignored)
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
}

impl<R> ListEnvelope<R> {
    /// The envelope of these records.
    pub(super) fn of(PageFigures { page, size, order, direction, total }: PageFigures, records: Vec<R>) -> Self {
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
            has_next_page: before + found < total && found > 0,
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
