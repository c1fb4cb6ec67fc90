//! naru-cli
