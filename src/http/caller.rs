//! Who asks: every handler that touches a session takes this, so that none can forget to.

use std::future::Ready;
use std::future::ready;

use actix_web::FromRequest;
use actix_web::HttpRequest;
use actix_web::dev::Payload;

use crate::auth::Caller;
use crate::http::error::ApiError;

/// The caller of a request.
pub(super) struct Authenticated(pub Caller);

impl FromRequest for Authenticated {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(_: &HttpRequest, _: &mut Payload) -> Self::Future {
        // No credentials can be configured yet, so the server runs in dev mode: on loopback, as one user.
        ready(Ok(Self(Caller::dev())))
    }
}
