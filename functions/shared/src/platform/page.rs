//! Lists, a page at a time: `?limit=&cursor=` in, `{"items", "next_cursor"}` out. A cursor names the last item seen,
//! so items that are added or removed meanwhile shift nothing.

use axum::{
    extract::{FromRequestParts, Query},
    http::request::Parts,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::http::{Problem, text};

const USUAL_LIMIT: i64 = 50;
const HIGHEST_LIMIT: i64 = 200;

/// The page that is asked for, as the address says it.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// How many items at most; 1 to 200.
    #[param(default = 50, minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// The requested page: the items older than `before`, newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The most items of the page.
    pub limit: i64,
    /// Only items with a smaller id.
    pub before: i64,
}

impl Wanted {
    fn read(query: &PageQuery) -> Result<Self, Problem> {
        let before = match &query.cursor {
            None => i64::MAX,
            Some(cursor) => read_cursor(cursor).ok_or_else(foreign_cursor)?,
        };
        Ok(Self { limit: read_limit(query.limit)?, before })
    }

    /// Returns the number of rows to select: one more than `limit`, to learn if there is a next page.
    pub fn rows(self) -> i64 {
        self.limit + 1
    }

    /// Makes the page from as many rows as [`Wanted::rows`] says.
    pub fn page<T>(self, mut items: Vec<T>, id: impl Fn(&T) -> i64) -> Page<T> {
        let limit = usize::try_from(self.limit).unwrap_or_default();
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items.last().filter(|_| more).map(|item| URL_SAFE_NO_PAD.encode(id(item).to_string()));
        Page { items, next_cursor }
    }
}

fn read_cursor(cursor: &str) -> Option<i64> {
    String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?.parse().ok()
}

fn malformed() -> Problem {
    Problem::malformed(text("Параметры адреса составлены неверно.", "The address's parameters are malformed."))
}

fn read_limit(limit: Option<i64>) -> Result<i64, Problem> {
    let limit = limit.unwrap_or(USUAL_LIMIT);
    if (1..=HIGHEST_LIMIT).contains(&limit) {
        return Ok(limit);
    }
    let detail = text("limit — число от 1 до 200.", "limit is a number from 1 to 200.");
    Err(Problem::invalid_field("limit", "invalid", detail))
}

fn foreign_cursor() -> Problem {
    let detail = text("cursor берётся из next_cursor прошлой страницы.", "cursor is the last page's next_cursor.");
    Problem::invalid_field("cursor", "invalid", detail)
}

impl<S: Send + Sync> FromRequestParts<S> for Wanted {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(query) = Query::<PageQuery>::from_request_parts(parts, state).await.map_err(|_| malformed())?;
        Self::read(&query)
    }
}

/// The requested page of a list that is not ordered by id: the items after `after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranked<const N: usize> {
    /// The most items of the page.
    pub limit: i64,
    /// The rank of the last item seen: numbers that fall along the list. None: the first page.
    pub after: Option<[i64; N]>,
}

impl<const N: usize> Ranked<N> {
    fn read(query: &PageQuery) -> Result<Self, Problem> {
        let after = query.cursor.as_deref().map(|cursor| read_rank(cursor).ok_or_else(foreign_cursor)).transpose()?;
        Ok(Self { limit: read_limit(query.limit)?, after })
    }

    /// Returns the number of rows to select: one more than `limit`, to learn if there is a next page.
    pub fn rows(self) -> i64 {
        self.limit + 1
    }

    /// Makes the page from as many rows as [`Ranked::rows`] says.
    pub fn page<T>(self, mut items: Vec<(T, [i64; N])>) -> Page<T> {
        let limit = usize::try_from(self.limit).unwrap_or_default();
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items
            .last()
            .filter(|_| more)
            .map(|(_, rank)| URL_SAFE_NO_PAD.encode(rank.iter().map(i64::to_string).collect::<Vec<_>>().join(".")));
        Page { items: items.into_iter().map(|(item, _)| item).collect(), next_cursor }
    }
}

fn read_rank<const N: usize>(cursor: &str) -> Option<[i64; N]> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    let numbers = text.split('.').map(|number| number.parse().ok()).collect::<Option<Vec<i64>>>()?;
    numbers.try_into().ok()
}

impl<S: Send + Sync, const N: usize> FromRequestParts<S> for Ranked<N> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(query) = Query::<PageQuery>::from_request_parts(parts, state).await.map_err(|_| malformed())?;
        Self::read(&query)
    }
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// The items, newest first.
    pub items: Vec<T>,
    /// Where the next page begins; null at the end.
    pub next_cursor: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(limit: Option<i64>, cursor: Option<&str>) -> Option<Wanted> {
        Wanted::read(&PageQuery { limit, cursor: cursor.map(str::to_owned) }).ok()
    }

    #[test]
    fn pages_follow_one_another_to_the_end_without_gap_or_repetition() {
        let all: Vec<i64> = (1..=7).rev().collect();
        let (mut seen, mut cursor) = (Vec::new(), None);
        for _ in 0..3 {
            let wanted = wanted(Some(3), cursor.as_deref()).unwrap_or(Wanted { limit: 0, before: 0 });
            let count = usize::try_from(wanted.rows()).unwrap_or_default();
            let rows = all.iter().copied().filter(|id| *id < wanted.before).take(count).collect();
            let page = wanted.page(rows, |id| *id);
            seen.extend(page.items);
            cursor = page.next_cursor;
        }
        assert_eq!((seen, cursor), (all, None));
    }

    #[test]
    fn a_limit_out_of_range_and_a_foreign_cursor_are_refused() {
        assert_eq!(wanted(None, None), Some(Wanted { limit: 50, before: i64::MAX }));
        assert!([Some(0), Some(201), Some(-1)].into_iter().all(|limit| wanted(limit, None).is_none()));
        assert!(["", "42", "!", "bm90IGEgbnVtYmVy"].into_iter().all(|cursor| wanted(None, Some(cursor)).is_none()));
    }

    #[test]
    fn ranked_pages_follow_one_another_and_a_cursor_of_another_list_is_refused() {
        let read = |cursor: Option<&str>| {
            Ranked::<2>::read(&PageQuery { limit: Some(2), cursor: cursor.map(str::to_owned) }).ok()
        };
        let all = [[9, 1], [8, 7], [8, 2], [-3, 5]];
        let (mut seen, mut cursor) = (Vec::new(), None);
        for _ in 0..2 {
            let wanted = read(cursor.as_deref()).unwrap_or(Ranked { limit: 0, after: None });
            let behind = all.into_iter().filter(|rank| wanted.after.is_none_or(|after| *rank < after));
            let page = wanted.page(behind.map(|rank| (rank, rank)).collect());
            seen.extend(page.items);
            cursor = page.next_cursor;
        }
        assert_eq!((seen.as_slice(), cursor), (all.as_slice(), None));
        assert!(["", "!", "OQ", "OS4xLjI"].into_iter().all(|cursor| read(Some(cursor)).is_none()));
    }
}
