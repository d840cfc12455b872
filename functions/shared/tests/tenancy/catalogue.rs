//! The database's catalogue: row-level security, policies, views, foreign keys and grants.

use std::collections::BTreeSet;

use tuberry::platform::db::{Scope, Statement};

use crate::support::World;

async fn names(world: &World, sql: &'static str) -> Vec<String> {
    world.query(Scope::Service, Statement::new(sql)).await.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn every_table_is_under_forced_row_level_security() {
    let sql = "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE c.relkind IN ('r', 'p') AND n.nspname = 'public' AND c.relname <> 'refinery_schema_history'
                 AND NOT (c.relrowsecurity AND c.relforcerowsecurity)";
    assert_eq!(names(&World::new(), sql).await, [""; 0]);
}

#[tokio::test]
async fn every_policy_is_for_a_named_role_and_checks_what_is_written() {
    let sql = "SELECT tablename || '.' || policyname FROM pg_policies
               WHERE schemaname = 'public'
                 AND ('public' = ANY (roles) OR (cmd <> 'SELECT' AND cmd <> 'DELETE' AND with_check IS NULL))";
    assert_eq!(names(&World::new(), sql).await, [""; 0]);
}

#[tokio::test]
async fn every_view_sees_what_its_reader_may_see() {
    let sql = "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE c.relkind = 'v' AND n.nspname = 'public'
                 AND NOT coalesce('security_invoker=true' = ANY (c.reloptions), false)";
    assert_eq!(names(&World::new(), sql).await, [""; 0]);
}

#[tokio::test]
async fn foreign_keys_between_tables_of_tenants_include_the_tenant() {
    let sql = "SELECT f.conname::text FROM pg_constraint f
               JOIN pg_attribute own ON own.attrelid = f.conrelid AND own.attname = 'client_id'
               JOIN pg_attribute other ON other.attrelid = f.confrelid AND other.attname = 'client_id'
               WHERE f.contype = 'f' AND NOT EXISTS (
                   SELECT FROM unnest(f.conkey, f.confkey) AS pair (mine, theirs)
                   WHERE pair.mine = own.attnum AND pair.theirs = other.attnum)";
    assert_eq!(names(&World::new(), sql).await, [""; 0]);
}

#[tokio::test]
async fn each_role_may_do_what_the_document_says_and_no_more() {
    let sql = "SELECT c.relname || ' ' || r.rolname || ' ' || a.privilege_type
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) a, pg_roles r
               WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p', 'v', 'm', 'S') AND r.oid = a.grantee
                 AND r.rolname LIKE 'tuberry%'
               UNION ALL
               SELECT c.relname || ' PUBLIC ' || a.privilege_type
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) a
               WHERE n.nspname = 'public' AND a.grantee = 0";
    let granted: BTreeSet<String> = names(&World::new(), sql).await.into_iter().collect();
    assert_eq!(granted, documented_grants());
}

/// Reads the rows of the table under «Grants» in `migrations/README.md`.
fn documented_grants() -> BTreeSet<String> {
    let document = include_str!("../../../../migrations/README.md");
    let table = document.split("## Grants").nth(1).unwrap_or_default();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let roles = ["tuberry_app", "tuberry_identity", "tuberry_service", "tuberry_search"];
    let mut grants = BTreeSet::new();
    for row in rows.map(cells) {
        for (role, privileges) in roles.iter().zip(&row[1..]) {
            for privilege in privileges.split(' ').filter(|privilege| !privilege.is_empty()) {
                grants.insert(format!("{} {role} {}", row[0].trim_matches('`'), privilege.to_uppercase()));
            }
        }
    }
    grants
}

#[tokio::test]
async fn a_function_with_the_rights_of_its_owner_is_for_one_role_and_finds_only_what_is_meant() {
    let sql = "SELECT p.proname || ' ' || pg_get_userbyid(p.proowner) || ' ' || array_to_string(p.proconfig, ';') || ' '
                      || string_agg(CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee)::text END, ',' ORDER BY a.grantee)
               FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
               WHERE p.prosecdef AND p.pronamespace = 'public'::regnamespace AND a.grantee <> p.proowner
               GROUP BY p.oid";
    let found = names(&World::new(), sql).await;
    let [search] = found.as_slice() else { panic!("{found:?}") };
    assert!(search.starts_with("search_dialogs tuberry_search ") && search.ends_with(" tuberry_app"), "{search}");
    assert!(search.contains("search_path=pg_catalog, public, pg_temp;"), "{search}");
}
