//! The simulated door controllers: real MQTT 5 clients that publish with QoS 1.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::Context;
use rumqttc::{AsyncClient, EventLoop, MqttOptions, PublishOptions, QoS};
use secrecy::ExposeSecret;
use tokio::time;

use super::{
    broker::{self, Broker},
    day::Controller,
};

/// The most messages queued per connection: more than the busiest minute of the day has. When it is full, the day
/// waits.
const QUEUE: usize = 256;

/// The delay before a controller reconnects.
const RECONNECT_DELAY: Duration = Duration::from_millis(200);

/// All controllers of the site.
pub(super) struct Controllers {
    bridge: AsyncClient,
    garden: AsyncClient,
}

/// The controllers' connections. They work only while [`ControllerConnections::drive`] runs.
pub(super) struct ControllerConnections {
    bridge: EventLoop,
    garden: EventLoop,
}

/// Creates the controllers. They connect once their connections are driven.
pub(super) fn controllers(broker: &Broker) -> anyhow::Result<(Controllers, ControllerConnections)> {
    let (bridge, bridge_loop) = client(broker, "uhppoted-gateway")?;
    let (garden, garden_loop) = client(broker, "esp-garden")?;
    Ok((Controllers { bridge, garden }, ControllerConnections { bridge: bridge_loop, garden: garden_loop }))
}

fn client(broker: &Broker, id: &str) -> anyhow::Result<(AsyncClient, EventLoop)> {
    let mut options = MqttOptions::new(id, (Ipv4Addr::LOCALHOST.to_string(), broker.port));
    options.set_keep_alive(20).set_credentials(broker::USER, broker.password.expose_secret().to_owned());
    AsyncClient::builder(options).capacity(QUEUE).try_build().context("cannot create an MQTT client")
}

impl Controllers {
    /// Publishes one payload on each of the topics.
    pub(super) async fn publish(&self, from: Controller, topics: &[&str], payload: &str) -> anyhow::Result<()> {
        let client = match from {
            Controller::Bridge => &self.bridge,
            Controller::Garden => &self.garden,
        };
        for topic in topics {
            let options = PublishOptions::new(QoS::AtLeastOnce);
            client.publish(*topic, payload.to_owned(), options).await.context("a controller could not publish")?;
        }
        Ok(())
    }
}

impl ControllerConnections {
    /// Keeps every controller connected. Never returns.
    pub(super) async fn drive(self) {
        tokio::join!(keep_connected(self.bridge), keep_connected(self.garden));
    }
}

async fn keep_connected(mut connection: EventLoop) {
    loop {
        if let Err(error) = connection.poll().await {
            tracing::debug!(%error, "a simulated controller lost its connection");
            time::sleep(RECONNECT_DELAY).await;
        }
    }
}
