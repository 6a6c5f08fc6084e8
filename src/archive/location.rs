//! Where an archive is: a directory, or a bucket and prefix of S3.
//!
//! Knows text alone; opens nothing.

use std::fmt;
use std::path::PathBuf;

use crate::s3;

/// What `archive.url` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    Directory(PathBuf),
    S3 { bucket: String, prefix: String },
}

impl Location {
    /// What [`Self::parse`] reads, for messages.
    pub const RIGHT: &str = "a directory, \"file:///path\" or \"s3://bucket/prefix\"";

    /// `None` where the text is none of [`Self::RIGHT`].
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once("://") {
            None => Some(Self::Directory(text.into())).filter(|_| !text.is_empty()),
            Some(("file", _)) => reqwest::Url::parse(text).ok()?.to_file_path().ok().map(Self::Directory),
            Some(_) => s3::parse(text).map(|(bucket, prefix)| Self::S3 { bucket: bucket.into(), prefix: prefix.into() }),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(dir) => write!(f, "{}", dir.display()),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_and_buckets() {
        let dir = |p: &str| Some(Location::Directory(p.into()));
        assert_eq!(Location::parse("data/archive"), dir("data/archive"));
        assert_eq!(Location::parse("file:///var/my%20archive"), dir("/var/my archive"));
        let s3 = |bucket: &str, prefix: &str| Some(Location::S3 { bucket: bucket.into(), prefix: prefix.into() });
        assert_eq!(Location::parse("s3://b/a/c/"), s3("b", "a/c"));
        assert_eq!(Location::parse("s3://b"), s3("b", ""));
        for wrong in ["", "s3://", "s3:///x", "gs://b/x", "file://relative/x", "s3://b c/x"] {
            assert_eq!(Location::parse(wrong), None, "{wrong}");
        }
    }
}
