//! The query plans of SQLite.

use crate::store::tests::fresh::Fresh;

/// Every statement of a batch must find its rows by an index, however many there are, and so must the statements of a
/// restart, a timer and retention.
#[tokio::test]
async fn no_statement_scans_a_table() {
    let fresh = Fresh::sqlite().await;
    let statements = crate::store::batch::statements().into_iter().chain(crate::store::retention::statements());
    let statements = statements.chain(crate::store::set_aside::statements());
    let statements = statements.chain(crate::store::plain_checkins::statements());
    for (statement, arguments) in statements {
        for step in fresh.plan(statement, arguments).await.lines() {
            // The rows of the batch itself, rows found by an index, and a table of one row.
            let small = ["SCAN r", "SCAN json", "SCAN (subquery", "SCAN directory_version"]
                .iter()
                .any(|few| step.starts_with(few));
            assert!(small || !step.starts_with("SCAN"), "{step}: {}", statement.sqlite);
        }
    }
}

/// The indexes for which the statements are designed.
#[tokio::test]
async fn statements_find_their_rows_by_index() {
    let fresh = Fresh::sqlite().await;
    for (statement, arguments, how) in crate::store::batch::indexed() {
        let plan = fresh.plan(statement, arguments).await.replace("USING COVERING INDEX", "USING INDEX");
        for step in how {
            assert!(plan.contains(step), "{step}:\n{plan}\n{}", statement.sqlite);
        }
    }
}
