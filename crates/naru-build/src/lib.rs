//! naru-build
