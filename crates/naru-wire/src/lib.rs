//! naru-wire
