//! naru-ops
