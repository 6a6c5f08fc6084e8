//! What goes wrong with a request, as the caller sees it: a status code and `{"error": …}`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::log::LogError;

/// An answer other than success. The message says what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub code: StatusCode,
    pub message: String,
}

impl Problem {
    pub fn new(code: StatusCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// Outputs that cannot be read here, for good or for now.
    pub fn unreadable(e: LogError) -> Self {
        match e {
            LogError::Fatal(message) => Self::new(StatusCode::NOT_IMPLEMENTED, message),
            e => e.into(),
        }
    }

    /// Try again later.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }
}

impl From<LogError> for Problem {
    fn from(e: LogError) -> Self {
        match e {
            LogError::Retriable(message) | LogError::Abortable(message) => Self::unavailable(message),
            LogError::Fatal(message) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, message),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.code, Json(serde_json::json!({ "error": self.message }))).into_response();
        match self.code {
            StatusCode::SERVICE_UNAVAILABLE => {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            StatusCode::UNAUTHORIZED => {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}
