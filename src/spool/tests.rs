use super::*;
use crate::{
    mapping::content::{RejectReason, Rejection},
    source::{Receipt, delivery_channel},
};
use std::sync::Mutex;

struct Bench {
    folder: tempfile::TempDir,
    health: Health,
    counters: Arc<SpoolCounters>,
    /// The messages in the order in which they were acknowledged.
    acknowledged: Arc<Mutex<Vec<u32>>>,
}

/// A running spool.
struct Running {
    session: mpsc::Sender<Delivery>,
    pipeline: mpsc::Receiver<Delivery>,
    taken: CancellationToken,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), StoreError>>,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { folder, health: Health::new(Clock::system()), counters: Arc::default(), acknowledged: Arc::default() }
    }

    async fn open(&self, limit: u64) -> Result<Spool, StoreError> {
        let settings = settings::SpoolSettings { path: self.folder.path().join("spool.db"), limit };
        Spool::open(&settings, Clock::system(), self.health.clone(), Arc::clone(&self.counters)).await
    }

    /// `room` is the capacity of the queue to the pipeline.
    #[expect(clippy::disallowed_methods, reason = "a test is its own supervisor")]
    async fn start(&self, limit: u64, room: usize) -> Running {
        // Room for everything that a test sends, however much of it the spool reads.
        let (session, input) = mpsc::channel(4096);
        let (output, pipeline) = delivery_channel(room, DELIVERY_BYTES);
        let (taken, stop) = (CancellationToken::new(), CancellationToken::new());
        let ends = SpoolEnds { input, output, settled: taken.clone(), stop: stop.clone() };
        let spool = self.open(limit).await.expect("the spool opens");
        let task = tokio::spawn(spool.run(ends));
        Running { session, pipeline, taken, stop, task }
    }

    fn delivery(&self, number: u32) -> Delivery {
        let log = Arc::clone(&self.acknowledged);
        let sample = number.to_string();
        let rejection = Rejection { why: RejectReason::NoRule, topic: "doors".to_owned(), sample };
        let content = if number % 10 == 9 { Content::Ignored } else { Content::Rejected(rejection) };
        Delivery::new(Arc::from("side"), content, Receipt::new(move || log.lock().expect("the log").push(number)))
    }

    /// A message of 100 KB.
    fn large(&self, number: u32) -> Delivery {
        let log = Arc::clone(&self.acknowledged);
        let rejection = Rejection { why: RejectReason::NoRule, topic: "d".repeat(100_000), sample: number.to_string() };
        let receipt = Receipt::new(move || log.lock().expect("the log").push(number));
        Delivery::new(Arc::from("side"), Content::Rejected(rejection), receipt)
    }

    async fn wait_for_acknowledged(&self, count: usize) {
        while self.acknowledged.lock().expect("the log").len() < count {
            time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn number(delivery: &Delivery) -> u32 {
    let Content::Rejected(rejection) = &delivery.content else { panic!("{delivery:?}") };
    rejection.sample.parse().expect("a number")
}

/// The numbers of the messages that need a decision.
fn decided(numbers: std::ops::Range<u32>) -> impl Iterator<Item = u32> {
    numbers.filter(|number| number % 10 != 9)
}

#[tokio::test]
async fn everything_is_acknowledged_and_delivered_in_order_however_slow_the_reader_is() {
    let bench = Bench::new();
    let mut running = bench.start(1_000_000_000, 1000).await;
    for number in 0..5000 {
        running.session.send(bench.delivery(number)).await.expect("it is read");
    }
    bench.wait_for_acknowledged(5000).await;
    assert!(bench.acknowledged.lock().expect("the log").iter().copied().eq(0..5000));
    drop(running.session);
    for expected in decided(0..5000) {
        let delivery = running.pipeline.recv().await.expect("a delivery");
        assert_eq!(number(&delivery), expected);
        delivery.receipt.spend();
    }
    running.task.await.expect("no panic").expect("a clean end");
    assert!(running.taken.is_cancelled());
    let next = bench.open(1_000_000_000).await.expect("the spool opens again");
    assert_eq!(next.written, 0, "nothing is left");
}

#[tokio::test]
async fn large_messages_wait_in_the_file_and_come_in_order() {
    let bench = Bench::new();
    let mut running = bench.start(1_000_000_000, 1000).await;
    for number in 0..300 {
        running.session.send(bench.large(number)).await.expect("it is read");
    }
    bench.wait_for_acknowledged(300).await;
    let most = DELIVERY_BYTES as usize / 100_000;
    for expected in 0..300 {
        let delivery = running.pipeline.recv().await.expect("a delivery");
        assert_eq!(number(&delivery), expected);
        assert!(running.pipeline.len() < most, "{} wait, and one is read", running.pipeline.len());
        delivery.receipt.spend();
    }
    running.stop.cancel();
    running.task.await.expect("no panic").expect("a clean end");
}

#[tokio::test]
async fn what_was_not_committed_comes_again_in_the_next_process_and_nothing_before_it() {
    let bench = Bench::new();
    let mut running = bench.start(1_000_000_000, 1000).await;
    for number in 0..500 {
        running.session.send(bench.delivery(number)).await.expect("it is read");
    }
    bench.wait_for_acknowledged(500).await;
    for _ in decided(0..200) {
        running.pipeline.recv().await.expect("a delivery").receipt.spend();
    }
    let unspent = running.pipeline.recv().await.expect("a delivery");
    running.stop.cancel();
    running.task.await.expect("no panic").expect("a clean end");
    drop(unspent);

    let mut running = bench.start(1_000_000_000, 1000).await;
    running.session.send(bench.delivery(500)).await.expect("it is read");
    for expected in decided(200..501) {
        let delivery = running.pipeline.recv().await.expect("a delivery");
        assert_eq!(number(&delivery), expected);
    }
    assert_eq!(bench.counters.replayed.load(Relaxed), 270);
    running.stop.cancel();
    running.task.await.expect("no panic").expect("a clean end");
}

#[tokio::test]
async fn a_full_spool_takes_nothing_more_until_there_is_room() {
    let bench = Bench::new();
    let mut running = bench.start(50_000, 1000).await;
    for number in 0..3000 {
        running.session.send(bench.delivery(number)).await.expect("it is read");
    }
    while !bench.health.is_raised(ConditionKind::SpoolFull, "") {
        time::sleep(Duration::from_millis(2)).await;
    }
    let held = bench.acknowledged.lock().expect("the log").len();
    assert!(held < 3000, "{held}");
    for _ in decided(0..3000) {
        running.pipeline.recv().await.expect("a delivery").receipt.spend();
    }
    bench.wait_for_acknowledged(3000).await;
    running.stop.cancel();
    running.task.await.expect("no panic").expect("a clean end");
}

#[tokio::test]
async fn two_processes_do_not_share_a_spool() {
    let bench = Bench::new();
    let first = bench.open(1_000_000).await.expect("the spool opens");
    let second = bench.open(1_000_000).await.expect_err("it is taken");
    assert!(second.to_string().contains("another checkind"), "{second}");
    drop(first);
    bench.open(1_000_000).await.expect("it is free again");
}
