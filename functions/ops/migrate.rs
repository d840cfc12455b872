//! `migrate`: brings the database to this code's version. Invoked by hand after a deployment, and by the local stack.
//! Returns the names of the migrations that it applied. Empty: the database was at this version already.

use lambda_runtime::Error;
use serde_json::{Value, json};
use tuberry::{
    App,
    platform::{config::var, migrations, secrets::Secret},
};

async fn migrate(app: &'static App, _: Value) -> Result<Value, Error> {
    let address = Secret::new(app.config().text(var::MIGRATION_DATABASE_URL));
    let applied = migrations::apply(&address, app.config().text(var::DATABASE_CA)).await?;
    tracing::info!(?applied, "the database is at this code's version");
    Ok(json!({ "applied": applied }))
}

tuberry::schedule!("migrate", migrate, [OwnerDatabase]);
