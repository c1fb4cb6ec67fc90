//! naru-kernel
