// The same as peer_paho.py in JavaScript: mqtt.js and better-sqlite3, one INSERT per message, each in a separate transaction.
// usage: node peer_node.js PORT DATABASE MESSAGES [wal]
const [port, path, wanted, wal] = [process.argv[2], process.argv[3], +process.argv[4], process.argv[5] === 'wal'];
const mqtt = require('mqtt'), Database = require('better-sqlite3');
const db = new Database(path);
if (wal) { db.pragma('journal_mode=WAL'); db.pragma('synchronous=FULL'); }
db.exec('CREATE TABLE IF NOT EXISTS event (id TEXT PRIMARY KEY, door TEXT, card TEXT, direction TEXT, time TEXT, received INTEGER)');
const insert = db.prepare('INSERT INTO event VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING');
let done = 0, began, last = performance.now();
const latencies = [];
const now = () => performance.timeOrigin + performance.now();
function end() {
  latencies.sort((a, b) => a - b);
  console.log(JSON.stringify({ committed: done, rate: done / ((last - began) / 1e3), p50: latencies[done >> 1],
    p99: latencies[Math.max(0, Math.floor(done * 0.99) - 1)], memory: process.resourceUsage().maxRSS / 1024 }));
  process.exit(0);
}
const client = mqtt.connect(`mqtt://127.0.0.1:${port}`, { clientId: 'peer', clean: false });
client.on('message', (topic, payload) => {
  began ??= performance.now();
  const event = JSON.parse(payload);
  insert.run(event.id, event.door, event.card, event.direction, event.time, now());
  done++; last = performance.now(); latencies.push(now() - (event.sent || 0) / 1e6);
  if (done >= wanted) end();
});
client.on('connect', () => client.subscribe('flat/events', { qos: 1 }, () => console.log('ready')));
setInterval(() => { if (performance.now() - last > 10000) end(); }, 500);
