//! People. A person who signs in with Telegram is identified by Telegram's id alone. Its unique key decides which of
//! two sign-ins at the same time is first. The first sign-in creates an organisation with its owner, in one statement.

use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use utoipa::ToSchema;

use super::error::SignInError;
use crate::{
    App,
    platform::db::{ClientId, DbError, Scope, Statement, get},
};

/// What a person may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Runs the platform; belongs to no organisation.
    Admin,
    /// Runs an organisation.
    Owner,
    /// Works in an organisation.
    Manager,
}

impl Role {
    fn parse(name: &str) -> Result<Self, DbError> {
        match name {
            "admin" => Ok(Self::Admin),
            "owner" => Ok(Self::Owner),
            "manager" => Ok(Self::Manager),
            _ => Err(DbError::Shape),
        }
    }
}

/// A person as the API shows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct User {
    /// Our id of the person.
    pub id: i64,
    /// The person's name.
    pub name: String,
    /// What the person may do.
    pub role: Role,
    /// The organisation; none for the platform's admin.
    pub client_id: Option<i64>,
    /// Telegram's id of the person.
    pub telegram_user_id: Option<i64>,
    /// The e-mail address, never verified here.
    pub email: Option<String>,
    /// The phone number, if Telegram verified one.
    pub phone_number: Option<String>,
}

/// An organisation as its people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Organisation {
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: String,
}

/// A person with their organisation, and the status of both.
#[derive(Clone, Debug)]
pub struct Account {
    /// The person.
    pub user: User,
    /// The organisation. `None`: the person is the platform's admin.
    pub client: Option<Organisation>,
    /// False if the person was switched off.
    pub is_active: bool,
    /// True if the organisation was suspended.
    pub is_suspended: bool,
}

impl Account {
    fn read(row: &Row) -> Result<Self, DbError> {
        let client_id: Option<i64> = get(row, "client_id")?;
        let name: Option<String> = get(row, "client_name")?;
        Ok(Self {
            user: User {
                id: get(row, "id")?,
                name: get(row, "name")?,
                role: role_of(row)?,
                client_id,
                telegram_user_id: get(row, "telegram_user_id")?,
                email: get(row, "email")?,
                phone_number: get(row, "phone_number")?,
            },
            client: client_id.zip(name).map(|(id, name)| Organisation { id, name }),
            is_active: get(row, "is_active")?,
            is_suspended: get(row, "is_suspended")?,
        })
    }

    /// True if both the person and the organisation may work.
    pub fn may_work(&self) -> bool {
        self.is_active && !self.is_suspended
    }

    /// Returns the tenant. `None`: the person is the platform's admin.
    pub fn tenant(&self) -> Option<ClientId> {
        self.user.client_id.map(ClientId)
    }
}

/// Reads the role from the column `role`.
pub(super) fn role_of(row: &Row) -> Result<Role, DbError> {
    Role::parse(get(row, "role")?)
}

/// Returns the person with this id.
pub async fn find(app: &App, user_id: i64) -> Result<Option<Account>, DbError> {
    let statement = Statement::new(
        "SELECT u.id, u.name, u.role, u.client_id, u.telegram_user_id, u.email, u.phone_number, u.is_active,
                c.name AS client_name, c.suspended_at IS NOT NULL AS is_suspended
         FROM users u LEFT JOIN tenancy_clients c ON c.client_id = u.client_id WHERE u.id = $1",
    );
    let rows = app.db().query(Scope::Identity, statement.bind(user_id)).await?;
    rows.first().map(Account::read).transpose()
}

fn by_telegram_id(telegram_user_id: i64) -> Statement {
    Statement::new(
        "SELECT u.id, u.name, u.role, u.client_id, u.telegram_user_id, u.email, u.phone_number, u.is_active,
                c.name AS client_name, c.suspended_at IS NOT NULL AS is_suspended
         FROM users u LEFT JOIN tenancy_clients c ON c.client_id = u.client_id WHERE u.telegram_user_id = $1",
    )
    .bind(telegram_user_id)
}

/// Creates an organisation and its owner, unless a person has this Telegram id. Of two sign-ins at the same time, the
/// unique key refuses the second with its organisation. Reading again then finds the first.
fn create_owner(telegram_user_id: i64, name: &str) -> Statement {
    Statement::new(
        "INSERT INTO users (client_id, role, name, telegram_user_id)
         SELECT create_client($2), 'owner', $2, $1 WHERE NOT EXISTS (SELECT FROM users WHERE telegram_user_id = $1)",
    )
    .bind(telegram_user_id)
    .bind(name.to_owned())
}

/// Creates the platform's admin, unless a person has this Telegram id.
fn create_admin(telegram_user_id: i64, name: &str) -> Statement {
    Statement::new(
        "INSERT INTO users (role, name, telegram_user_id) VALUES ('admin', $2, $1)
         ON CONFLICT (telegram_user_id) DO NOTHING",
    )
    .bind(telegram_user_id)
    .bind(name.to_owned())
}

/// Returns the person with this Telegram id, and creates one if there is none: the platform's admin for the configured
/// id, else the owner of a new organisation.
pub(super) async fn find_or_create(
    app: &App,
    telegram_user_id: i64,
    name: &str,
    is_admin: bool,
) -> Result<Account, SignInError> {
    let statements = || {
        let create = if is_admin { create_admin(telegram_user_id, name) } else { create_owner(telegram_user_id, name) };
        app.db().run(Scope::Identity, vec![create, by_telegram_id(telegram_user_id)])
    };
    let results = match statements().await {
        Err(error) if error.constraint() == Some("users_telegram_user_id_key") => statements().await?,
        outcome => outcome?,
    };
    let row = results.last().and_then(|rows| rows.first()).ok_or(DbError::Shape)?;
    let account = Account::read(row)?;
    match (is_admin, account.user.role) {
        (true, Role::Owner | Role::Manager) => Err(SignInError::AdminHasOrganisation),
        (false, Role::Admin) => Err(SignInError::NotAdmin),
        _ => Ok(account),
    }
}
