//! naru-net
