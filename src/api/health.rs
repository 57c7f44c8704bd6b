//! `/healthz`, `/readyz` and `/metrics`, for monitoring. They contain no personal data and need no token.

use std::time::Duration;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tokio::{sync::Mutex, time::timeout};
use utoipa::ToSchema;

use super::{ApiState, metrics_format, reply::json};
use crate::base::{
    clock::{BootTime, WallTime},
    health::{Condition, ConditionKind},
};

/// How long the database may take to answer before `/readyz` reports it as unavailable.
const PROBE: Duration = Duration::from_secs(2);

/// How long one answer of the database is reused: callers of `/readyz` must not be able to keep the database busy.
const PROBE_VALID: Duration = Duration::from_secs(1);

/// The process answers.
#[derive(Serialize, ToSchema)]
#[schema(as = Liveness)]
pub(super) struct HealthBody {
    status: &'static str,
}

/// Whether the daemon is ready, and every condition.
#[derive(Serialize, ToSchema)]
pub(super) struct Readiness {
    status: &'static str,
    conditions: Vec<ConditionBody>,
}

/// A condition as `/readyz` lists it. The `blocking` ones cause the 503; the others are warnings.
#[derive(Serialize, ToSchema)]
#[schema(as = ReadinessCondition)]
struct ConditionBody {
    name: &'static str,
    subject: String,
    detail: String,
    since: String,
    blocking: bool,
}

impl From<Condition> for ConditionBody {
    fn from(condition: Condition) -> Self {
        Self {
            name: condition.kind.name(),
            subject: condition.subject,
            detail: condition.detail,
            since: condition.since.to_rfc3339_seconds(),
            blocking: condition.kind.blocks_readiness(),
        }
    }
}

/// 200 whenever the process can answer. It checks nothing else: a broken database must not restart the process.
pub(super) async fn healthz() -> Response {
    json(StatusCode::OK, &HealthBody { status: "ok" })
}

/// 200 once start-up has finished and no condition blocks, otherwise 503. Lists every condition.
pub(super) async fn readyz(State(api): State<ApiState>) -> Response {
    // Read this first: then the conditions read below include all that were raised before start-up finished.
    let started = api.ready.is_started();
    let mut conditions = api.health.conditions();
    let is_raised = conditions.iter().any(|condition| condition.kind == ConditionKind::DatabaseUnavailable);
    if !is_raised && let Some(condition) = api.probe.database(&api).await {
        conditions.insert(0, condition);
    }
    let blocked = conditions.iter().any(|condition| condition.kind.blocks_readiness());
    let (code, status) = match (started, blocked) {
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
        (true, true) => (StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
        (true, false) => (StatusCode::OK, "ready"),
    };
    json(code, &Readiness { status, conditions: conditions.into_iter().map(ConditionBody::from).collect() })
}

/// The metrics in the format that the client asks for.
pub(super) async fn metrics(State(api): State<ApiState>, headers: HeaderMap) -> Response {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = metrics_format::format(accept);
    let content_type = HeaderValue::from_static(format.content_type());
    ([(header::CONTENT_TYPE, content_type)], api.metrics.text(format)).into_response()
}

/// The database's last answer. In an instance that only serves records, no other part would notice an unavailable
/// database.
#[derive(Debug, Default)]
pub(super) struct Probe(Mutex<Option<ProbeAnswer>>);

#[derive(Debug)]
struct ProbeAnswer {
    at: BootTime,
    /// When the database stopped answering, and its error; `None` while it answers.
    failing: Option<(WallTime, String)>,
}

impl Probe {
    /// The condition to report if the database does not answer. Queries the database at most once a second.
    async fn database(&self, api: &ApiState) -> Option<Condition> {
        // Until it is open, the condition of the start says why.
        let store = api.store().ok()?;
        let mut last = self.0.lock().await;
        let now = api.clock.now();
        let fresh = last.as_ref().is_some_and(|answer| now.boot.since(answer.at) < PROBE_VALID);
        if !fresh {
            let since = last.take().and_then(|answer| answer.failing).map_or(now.wall, |(since, _)| since);
            let failing = match timeout(PROBE, store.probe()).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some((since, error.in_words("the database"))),
                Err(_) => Some((since, format!("the database did not answer within {} s", PROBE.as_secs()))),
            };
            *last = Some(ProbeAnswer { at: now.boot, failing });
        }
        let (since, detail) = last.as_ref()?.failing.clone()?;
        Some(Condition { kind: ConditionKind::DatabaseUnavailable, subject: String::new(), detail, since })
    }
}
