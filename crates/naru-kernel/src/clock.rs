//! The clocks: wall time as a [`Timestamp`], and monotonic nanoseconds for durations.

use naru_types::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// Wall clock (CLOCK_REALTIME). Jumps when the administrator sets the time: never use it for durations.
pub fn now() -> Timestamp {
    let time = clock_gettime(ClockId::Realtime);
    Timestamp::from_parts(time.tv_sec, time.tv_nsec as u32)
}

/// Nanoseconds of a clock that never jumps and stops during suspend (CLOCK_MONOTONIC).
pub fn monotonic_nanos() -> u64 {
    nanos(ClockId::Monotonic)
}

/// Nanoseconds since boot, suspend included (CLOCK_BOOTTIME).
pub fn boottime_nanos() -> u64 {
    nanos(ClockId::Boottime)
}

fn nanos(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    #[test]
    fn time_goes_on() {
        let first = super::monotonic_nanos();
        assert!(super::monotonic_nanos() >= first);
        assert!(super::now().secs() > 1_700_000_000);
    }
}
