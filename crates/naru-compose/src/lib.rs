//! naru-compose
