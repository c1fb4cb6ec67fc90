//! The two things a pure core may not have: the clock and random bytes.

use naru_types::Timestamp;
use rustix::time::ClockId;

/// Wall clock.
pub fn now() -> Timestamp {
    let time = rustix::time::clock_gettime(ClockId::Realtime);
    Timestamp::from_parts(time.tv_sec, time.tv_nsec as u32)
}

/// 256 random bits, for an id.
pub fn random_32() -> [u8; 32] {
    let mut bytes = [0; 32];
    let mut filled = 0;
    // getrandom(2) gives up to 256 bytes at once and fails only when interrupted before the pool is ready.
    while filled < bytes.len() {
        if let Ok(count) =
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
        {
            filled += count;
        }
    }
    bytes
}

/// An id of 64 hex digits that is no container's (endpoints, anonymous volumes). Docker's rule that an id
/// must not be all digits in its short form keeps `docker … 123456789012` from being taken for a number.
pub fn random_hex() -> String {
    loop {
        let text = naru_types::id::hex(&random_32());
        if !text[..naru_types::id::SHORT_LEN].bytes().all(|b| b.is_ascii_digit()) {
            return text;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_the_clock_is_after_2024() {
        assert_ne!(random_hex(), random_hex());
        assert!(now() > Timestamp::from_parts(1_704_067_200, 0));
    }
}
