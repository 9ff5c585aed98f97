//! Lists that come in pages: following them, and lying about where one was.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use heist::pb;

use super::{World, players::Answer};

/// A request for a page of some list.
pub trait Paged: Clone {
    type Item;

    /// The request for the page that a token leads to.
    fn with_token(self, page_token: &str) -> Self;

    /// The page, and the token of the next one.
    async fn page(self, world: &World) -> Answer<(Vec<Self::Item>, String)>;
}

macro_rules! paged {
    ($($request:ident: $rpc:ident -> $items:ident of $item:ident;)+) => {
        $(
            impl Paged for pb::$request {
                type Item = pb::$item;

                fn with_token(self, page_token: &str) -> Self {
                    Self { page_token: page_token.to_owned(), ..self }
                }

                async fn page(self, world: &World) -> Answer<(Vec<Self::Item>, String)> {
                    let answer = world.$rpc(self).await?;
                    Ok((answer.$items, answer.next_page_token))
                }
            }
        )+
    };
}

paged! {
    GetLeaderboardRequest: get_leaderboard -> entries of LeaderboardEntry;
    ListHeistsRequest: list_heists -> heists of Heist;
    ListNotificationsRequest: list_notifications -> notifications of Notification;
    ListTokenEventsRequest: list_token_events -> events of TokenEvent;
}

/// Every page from the one asked for to the last.
pub async fn all_pages<R: Paged>(world: &World, first: R) -> Vec<Vec<R::Item>> {
    pages_while(world, first, async || ()).await
}

/// Every page, with something that happens after each.
pub async fn pages_while<R: Paged>(
    world: &World,
    first: R,
    mut happens: impl AsyncFnMut(),
) -> Vec<Vec<R::Item>> {
    let mut pages = Vec::new();
    let mut request = first.clone();
    loop {
        let (page, token) = request.page(world).await.unwrap();
        pages.push(page);
        happens().await;
        if token.is_empty() {
            return pages;
        }
        request = first.clone().with_token(&token);
    }
}

/// The token of the page after the one asked for, which must not be the last.
pub async fn next_token<R: Paged>(world: &World, request: R) -> String {
    let (_, token) = request.page(world).await.unwrap();
    assert_ne!(token, "", "it was the last page");
    token
}

/// Forged tokens, among them a valid one with each of its bits flipped, and cut off at each place.
pub fn forgeries_of(good: &str) -> Vec<String> {
    let mut forged: Vec<String> = ["x", "0", " ", "AAAA", "1 OR 1=1", "🦊", "\0", "===="]
        .map(str::to_owned)
        .to_vec();
    forged.push("A".repeat(good.len()));
    forged.push("A".repeat(50_000));
    forged.push(format!("{good}A"));
    forged.push(format!("{good}AAAA"));
    forged.push(format!("{good}{good}"));
    forged.push(format!("{good}="));
    forged.push(format!(" {good}"));
    forged.extend((1..good.len()).map(|length| good[..length].to_owned()));
    let bytes = URL_SAFE_NO_PAD.decode(good).expect("tokens are base64");
    for bit in 0..bytes.len() * 8 {
        let mut turned = bytes.clone();
        turned[bit / 8] ^= 1 << (bit % 8);
        forged.push(URL_SAFE_NO_PAD.encode(turned));
    }
    forged
}

/// Checks that a list takes none of these tokens.
pub async fn refuses_tokens<R: Paged>(world: &World, request: R, tokens: Vec<String>)
where
    R::Item: std::fmt::Debug,
{
    for token in tokens {
        let refused = request.clone().with_token(&token).page(world).await;
        let status = refused.expect_err(&token);
        super::Refusal::from(status).names_the_page_token();
    }
}
