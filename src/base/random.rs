//! The only source of randomness: record ids, tokens, jitter.
//!
//! The pure core never calls this; it receives ids as arguments.

use std::time::Duration;

use uuid::Uuid;

/// A new random (version 4) UUID.
#[expect(clippy::disallowed_methods, reason = "this module is the sanctioned source of randomness")]
pub fn uuid() -> Uuid {
    Uuid::new_v4()
}

/// 32 bytes from the kernel's random number generator: enough for an unguessable bearer token.
#[expect(clippy::disallowed_methods, reason = "this module is the sanctioned source of randomness")]
pub fn secret() -> [u8; 32] {
    let mut bytes = [0u8; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(more) => filled += more,
            Err(rustix::io::Errno::INTR) => {}
            Err(fault) => panic!("getrandom failed: {fault}"),
        }
    }
    bytes
}

/// A random duration between half of `base` and all of it, which keeps many clients from retrying in step.
pub fn jittered(base: Duration) -> Duration {
    let draw = u32::from(secret()[0]);
    base / 2 + base * draw / 512
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_between_half_and_whole() {
        for _ in 0..64 {
            let drawn = jittered(Duration::from_secs(8));
            assert!(drawn >= Duration::from_secs(4) && drawn <= Duration::from_secs(8), "{drawn:?}");
        }
    }

    #[test]
    fn secrets_differ() {
        assert_ne!(secret(), secret());
    }
}
