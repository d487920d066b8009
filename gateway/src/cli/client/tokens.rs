//! Tokens of a gateway.

use super::{Client, Payload, encoded, read};
use crate::auth::{NewToken, TokenView};
use crate::cli::failed::Failed;
use http::Method;

impl Client {
    /// Makes a token.
    pub(in crate::cli) async fn create_token(&self, new: &NewToken) -> Result<TokenView, Failed> {
        read(self.send_json(Method::POST, "/v1/tokens", new).await?).await
    }

    /// All tokens, without what they are.
    pub(in crate::cli) async fn tokens(&self) -> Result<Vec<TokenView>, Failed> {
        self.get("/v1/tokens").await
    }

    /// Revokes a token.
    pub(in crate::cli) async fn revoke_token(&self, name: &str) -> Result<(), Failed> {
        let path = format!("/v1/tokens/{}", encoded(name));
        let request = self.request(Method::DELETE, &path, Payload::Whole(None))?;
        self.accepted(request).await.map(drop)
    }
}
