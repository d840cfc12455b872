//! `migrate`: brings the database to this code's version. Invoked by hand after a deployment, and by the local stack.
//! Returns the names of the migrations that it applied. Empty: the database was at this version already. Each time it
//! grants the roles of the tables to the role that the functions log in as.

use lambda_runtime::Error;
use serde_json::{Value, json};
use tuberry::{
    App,
    platform::{config::var, migrations, secrets::Secret},
};

async fn migrate(app: &'static App, _: Value) -> Result<Value, Error> {
    let config = app.config();
    let (address, roots) = (Secret::new(config.text(var::MIGRATION_DATABASE_URL)), config.text(var::DATABASE_CA));
    let applied = migrations::apply(&address, roots).await?;
    // Without a name the owner of the tables is the login as well, or somebody has granted the roles.
    let login = config.text(var::DATABASE_LOGIN);
    if !login.is_empty() {
        migrations::grant_roles(&address, roots, login).await?;
    }
    tracing::info!(?applied, "the database is at this code's version");
    Ok(json!({ "applied": applied }))
}

tuberry::schedule!("migrate", migrate, [OwnerDatabase]);
