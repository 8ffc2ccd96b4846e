//! What messages with passwords or tokens show of themselves: whom they concern, and no more.

use core::fmt;

use super::authpb::User;
use super::etcdserverpb::{
    AuthUserAddRequest, AuthUserChangePasswordRequest, AuthenticateRequest, AuthenticateResponse,
};

impl fmt::Debug for AuthenticateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticateRequest").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for AuthenticateResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticateResponse").field("header", &self.header).finish_non_exhaustive()
    }
}

impl fmt::Debug for AuthUserAddRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("AuthUserAddRequest");
        shown.field("name", &self.name).field("options", &self.options).finish_non_exhaustive()
    }
}

impl fmt::Debug for AuthUserChangePasswordRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("AuthUserChangePasswordRequest");
        shown.field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("User");
        shown.field("name", &self.name).field("roles", &self.roles).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString as _;

    use super::*;

    #[test]
    fn nobody_reads_secrets_in_a_log() {
        let (name, secret) = ("ann".to_string(), "hush".to_string());
        let shown = [
            format!("{:?}", AuthenticateRequest { name: name.clone(), password: secret.clone() }),
            format!("{:?}", AuthenticateResponse { header: None, token: secret.clone() }),
            format!(
                "{:?}",
                AuthUserAddRequest {
                    name: name.clone(),
                    password: secret.clone(),
                    hashed_password: secret.clone(),
                    options: None
                }
            ),
            format!(
                "{:?}",
                AuthUserChangePasswordRequest {
                    name,
                    password: secret.clone(),
                    hashed_password: secret.clone()
                }
            ),
            format!("{:?}", User { password: secret.into(), ..User::default() }),
        ];
        for text in shown {
            assert!(!text.contains("hush"), "{text}");
        }
    }
}
