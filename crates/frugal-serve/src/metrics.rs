//! Counters and histograms under the names operators know.
