//! The calls that bring a password: Authenticate, and those that set one.

use std::sync::Arc;

use bytes::Bytes;
use cairn_engine::api::etcdserverpb::{
    AuthUserAddRequest, AuthUserChangePasswordRequest, AuthenticateRequest, AuthenticateResponse,
};
use cairn_engine::api::{Error, Request, Response};
use cairn_engine::auth::{Answer, Assignment, Change, Query};
use cairn_io::runtime::Runtime;
use prost::Message as _;
use zeroize::Zeroizing;

use super::{Tokens, digest, secret};
use crate::context::Context;
use crate::grpc::frame;
use crate::grpc::method::Method;
use crate::grpc::status::Status;
use crate::grpc::unary;

/// A call that brings a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Account {
    Authenticate,
    UserAdd,
    UserChangePassword,
}

impl Account {
    /// The call that a method is, if it is one.
    pub(crate) fn of(method: Method) -> Option<Self> {
        if method == Method::Authenticate {
            Some(Self::Authenticate)
        } else if method == Method::UserAdd {
            Some(Self::UserAdd)
        } else if method == Method::UserChangePassword {
            Some(Self::UserChangePassword)
        } else {
            None
        }
    }

    /// Answers it; the answer is a message with its prefix.
    pub(crate) async fn answer<R: Runtime>(
        self,
        server: &Context<R>,
        message: Bytes,
    ) -> Result<Bytes, Status> {
        match self {
            Self::Authenticate => authenticate(server, unary::decode(message)?).await,
            Self::UserAdd => add_user(server, unary::decode(message)?).await,
            Self::UserChangePassword => change_password(server, unary::decode(message)?).await,
        }
    }
}

/// How often a password is checked anew because users were changed meanwhile.
const ATTEMPTS_MAX: usize = 10;

async fn authenticate<R: Runtime>(
    server: &Context<R>,
    request: AuthenticateRequest,
) -> Result<Bytes, Status> {
    let AuthenticateRequest { name, password } = request;
    let password = Zeroizing::new(password);
    let mut attempts = 0;
    loop {
        attempts += 1;
        match token_for(server, &name, &password).await {
            // The password may be another now.
            Err(Error::AuthOldRevision) if attempts < ATTEMPTS_MAX => {}
            Ok(answer) => {
                let append = |out: &mut Vec<u8>| answer.encode(out).expect("memory grows");
                return Ok(frame::message(answer.encoded_len(), append));
            }
            Err(error) => {
                if error != Error::AuthNotEnabled {
                    tracing::warn!(
                        user = name,
                        error = error.message(),
                        "invalid authentication was requested"
                    );
                }
                return Err(error.into());
            }
        }
    }
}

async fn token_for<R: Runtime>(
    server: &Context<R>,
    name: &str,
    password: &Zeroizing<String>,
) -> Result<AuthenticateResponse, Error> {
    let (own, accounts) = (server.own_handle(), server.accounts());
    let found = own.ask(Request::AuthQuery(Query::Password(name.to_owned()))).await;
    let (hash, revision) = match found {
        Ok(Response::Auth(Answer::Password { hash, revision })) => (Some(hash), revision),
        Ok(_) => unreachable!("each question has its kind of answer"),
        Err(Error::AuthFailed) => (None, 0),
        Err(error) => return Err(error),
    };
    if !accounts.passwords.verify(password.clone(), hash).await? {
        return Err(Error::AuthFailed);
    }
    match &accounts.tokens {
        Tokens::Disabled => Err(Error::AuthFailed),
        Tokens::Signed(signer, _) => {
            let token = signer.sign(name, revision)?;
            Ok(AuthenticateResponse { header: Some(own.header()), token })
        }
        Tokens::Simple => {
            let secret = secret();
            let (name, digest) = (Arc::from(name), digest(&secret));
            let assignment = Assignment { name, digest, checked: revision };
            let assigned = own.ask(Request::Authenticate(assignment)).await?;
            let Response::Auth(Answer::Authenticate(answer)) = assigned else {
                unreachable!("each question has its kind of answer")
            };
            let token = format!("{secret}.{}", answer.token);
            Ok(AuthenticateResponse { token, ..answer })
        }
    }
}

async fn add_user<R: Runtime>(
    server: &Context<R>,
    mut request: AuthUserAddRequest,
) -> Result<Bytes, Status> {
    let password = Zeroizing::new(core::mem::take(&mut request.password));
    may_manage(server).await?;
    let has_password = !request.options.is_some_and(|options| options.no_password);
    request.hashed_password = if has_password {
        server.accounts().passwords.hash(password).await?
    } else {
        String::new()
    };
    change(server, Change::UserAdd(request)).await
}

async fn change_password<R: Runtime>(
    server: &Context<R>,
    mut request: AuthUserChangePasswordRequest,
) -> Result<Bytes, Status> {
    let password = Zeroizing::new(core::mem::take(&mut request.password));
    may_manage(server).await?;
    // As in etcd, no password is none: nobody can log in with it.
    request.hashed_password = if password.is_empty() {
        String::new()
    } else {
        server.accounts().passwords.hash(password).await?
    };
    change(server, Change::UserChangePassword(request)).await
}

/// Whoever may not change users shall not make us hash, either.
async fn may_manage<R: Runtime>(server: &Context<R>) -> Result<(), Error> {
    server.handle().ask(Request::AuthQuery(Query::MayManage)).await.map(drop)
}

async fn change<R: Runtime>(server: &Context<R>, change: Change) -> Result<Bytes, Status> {
    let answer = server.handle().ask(Request::Auth(change)).await?;
    Ok(frame::message(answer.encoded_len(), |out| answer.encode(out)))
}
