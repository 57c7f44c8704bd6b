#!/usr/bin/env python3
"""The script that a site's technician would write: paho-mqtt and sqlite3, one INSERT and one commit per message.

usage: peer_paho.py PORT DATABASE MESSAGES [wal]
"""
import json, resource, sqlite3, sys, time
import paho.mqtt.client as mqtt

port, path, wanted, wal = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), "wal" in sys.argv[4:]
db = sqlite3.connect(path, check_same_thread=False)
if wal:
    db.execute("PRAGMA journal_mode=WAL")
db.execute("CREATE TABLE IF NOT EXISTS event (id TEXT PRIMARY KEY, door TEXT, card TEXT, direction TEXT, time TEXT, received INTEGER)")
db.commit()
done, began, last, latencies = 0, None, time.monotonic(), []


def on_message(client, userdata, message):
    global done, began, last
    began = began or time.monotonic()
    event = json.loads(message.payload)
    db.execute("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
               (event["id"], event["door"], event["card"], event["direction"], event["time"], time.time_ns()))
    db.commit()
    done, last = done + 1, time.monotonic()
    latencies.append(time.time_ns() - event.get("sent", 0))


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="peer", clean_session=False)
client.on_message = on_message
client.on_subscribe = lambda *_: print("ready", flush=True)
client.connect("127.0.0.1", port)
client.subscribe("flat/events", qos=1)
while done < wanted and time.monotonic() - last < 10:
    client.loop(0.5)
latencies.sort()
print(json.dumps({"committed": done, "rate": done / (last - (began or 0)), "p50": latencies[done // 2] / 1e6,
                  "p99": latencies[max(0, int(done * 0.99) - 1)] / 1e6,
                  "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
