use super::*;
use crate::{
    base::turns::Turn,
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
    link: SpoolLink,
    task: tokio::task::JoinHandle<Result<(), StoreError>>,
}

impl Running {
    async fn next(&mut self) -> Delivery {
        self.pipeline.recv().await.expect("a delivery")
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("no panic").expect("a clean end");
    }
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { folder, health: Health::new(Clock::system()), counters: Arc::default(), acknowledged: Arc::default() }
    }

    async fn open(&self, limit: u64) -> Result<Spool, StoreError> {
        let settings =
            settings::SpoolSettings { path: self.folder.path().join("spool.db"), limit, keep: Duration::from_hours(1) };
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
        let link = spool.link();
        let task = tokio::spawn(spool.run(ends, Turn::unwatched(Clock::system())));
        Running { session, pipeline, taken, stop, link, task }
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
        running.link.mark(delivery.receipt.place().expect("a place").seq);
        delivery.receipt.spend();
    }
    running.task.await.expect("no panic").expect("a clean end");
    assert!(running.taken.is_cancelled());
    let next = bench.open(1_000_000_000).await.expect("the spool opens again");
    assert!(next.is_empty(), "nothing is left to deliver");
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
        running.next().await.receipt.spend();
    }
    running.link.mark(180);
    let unspent = running.next().await;
    running.stop().await;
    drop(unspent);

    let mut running = bench.start(1_000_000_000, 1000).await;
    running.session.send(bench.delivery(500)).await.expect("it is read");
    for expected in decided(200..501) {
        let delivery = running.next().await;
        assert_eq!(number(&delivery), expected);
    }
    assert_eq!(bench.counters.replayed.load(Relaxed), 270);
    running.stop().await;
}

#[tokio::test]
async fn what_the_database_lost_is_delivered_again_in_order_and_old_receipts_count_no_more() {
    let bench = Bench::new();
    let mut running = bench.start(1_000_000_000, 1000).await;
    for number in 0..300 {
        running.session.send(bench.delivery(number)).await.expect("it is read");
    }
    bench.wait_for_acknowledged(300).await;
    for _ in decided(0..200) {
        running.next().await.receipt.spend();
    }
    running.link.mark(180);
    let early = running.next().await;
    assert_eq!(early.receipt.place(), Some(SpoolPlace { round: 0, seq: 181 }));
    assert_eq!(running.link.deliver_again(90), DeliveredAgain { messages: 180, gone: 0 });
    // What was on its way comes first, then everything after the place.
    let mut delivery = running.next().await;
    while delivery.receipt.place().is_some_and(|place| place.round == 0) {
        delivery.receipt.spend();
        delivery = running.next().await;
    }
    early.receipt.spend();
    let mut expected = decided(100..300);
    loop {
        assert_eq!(Some(number(&delivery)), expected.next());
        let place = delivery.receipt.place().expect("a place");
        assert_eq!(place.round, 1);
        if place.seq == 270 {
            break;
        }
        delivery = running.next().await;
    }
    while bench.counters.depth.load(Relaxed) != 180 {
        time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(bench.counters.delivered_again.load(Relaxed), 180);
    running.stop().await;
    let next = bench.open(1_000_000_000).await.expect("the spool opens again");
    assert_eq!((next.delivered, next.written), (90, 270), "the next process begins at the same place");
}

#[tokio::test]
async fn the_places_of_an_earlier_version_begin_a_new_count() {
    let bench = Bench::new();
    let mut running = bench.start(1_000_000_000, 1000).await;
    running.session.send(bench.delivery(1)).await.expect("it is read");
    running.next().await.receipt.spend();
    running.link.mark(1);
    let id = running.link.id().to_owned();
    running.stop().await;
    let next = bench.open(1_000_000_000).await.expect("the spool opens again");
    assert_eq!((next.link.id(), next.is_empty(), next.link.marked()), (id.as_str(), true, 1));

    // An earlier version writes rows without a mark, and counts from the beginning once its rows are deleted.
    let file = next.file.clone().expect("a file");
    let row = |seq| Spooled { seq, arrived_at: next.began.wall, message: "{}".to_owned(), marked: None };
    file.append(&[row(1)], 1).await.expect("written");
    drop(next);
    let next = bench.open(1_000_000_000).await.expect("the spool opens again");
    assert_ne!(next.link.id(), id);
    assert!(!next.is_empty());
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
        running.next().await.receipt.spend();
    }
    bench.wait_for_acknowledged(3000).await;
    running.stop().await;
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
