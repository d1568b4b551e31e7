//! What Chromium makes of the cookie when other sites have to do with the application: `SameSite` and `Partitioned`.

use crate::browser::{Browser, Served, ThirdPartyCookies};
use crate::stage::{APP, PORTAL, SHOP, Stage};
use serde_json::json;

fn same_site(value: &str) -> Stage {
    Stage::tls(json!({"cookie": {"same_site": value}}))
}

/// A request for the application by a script of the page's, which is on another site.
fn cross_site_fetch(browser: &Browser, stage: &Stage, page: &str) -> Served {
    let allowed = format!("access-control-allow-origin:{}", stage.url(page, ""));
    let rest = "header=access-control-allow-credentials:true&header=access-control-expose-headers:x-decision";
    browser.fetch(&stage.url(APP, &format!("/?header={allowed}&{rest}")))
}

/// Follows a link in the page to this URL.
fn follow_link(browser: &Browser, url: &str) {
    let body =
        "const link = Object.assign(document.createElement('a'), {href: args[0], id: 'link', textContent: 'there'});
        link.style = 'position: fixed; inset: 0; z-index: 1';
        document.body.prepend(link);";
    browser.run(body, &[url.into()]);
    browser.click("#link");
}

/// The application in a frame of a page at `site`.
fn in_frame(browser: &Browser, stage: &Stage, site: &str) -> Served {
    browser.open(&stage.url(site, "/"));
    let body = "const frame = Object.assign(document.createElement('iframe'), {src: args[0]});
        await new Promise((loaded) => { frame.onload = loaded; document.body.prepend(frame); });";
    browser.run(body, &[stage.url(APP, "/").into()]);
    browser.enter_frame();
    browser.shown()
}

#[test]
fn a_lax_session_is_entered_by_a_link_and_left_alone_by_scripts_of_other_sites() {
    let stage = same_site("lax");
    let browser = Browser::with(&stage.certificates, ThirdPartyCookies::Allowed);
    browser.open(&stage.url(APP, "/"));
    let session = browser.shown().session;
    browser.open(&stage.url(PORTAL, "/"));
    let foreign = cross_site_fetch(&browser, &stage, PORTAL);
    assert_eq!(foreign.decision, "created", "the browser sent the cookie");
    assert_ne!(foreign.session, session);
    follow_link(&browser, &stage.url(APP, "/"));
    assert_eq!(browser.shown().session, session, "neither the link nor the script cost the session");
}

#[test]
fn a_strict_session_is_lost_when_a_link_of_another_site_leads_in() {
    let stage = same_site("strict");
    let browser = Browser::with(&stage.certificates, ThirdPartyCookies::Allowed);
    browser.open(&stage.url(APP, "/"));
    let session = browser.shown().session;
    assert_eq!(browser.fetch("/").session, session);
    browser.open(&stage.url(PORTAL, "/"));
    follow_link(&browser, &stage.url(APP, "/"));
    let entered = browser.shown().session;
    assert_ne!(entered, session);
    assert_eq!(browser.fetch("/").session, entered, "the session of before is gone for good");
}

#[test]
fn a_session_of_same_site_none_is_that_of_scripts_and_frames_of_other_sites_too() {
    let stage = same_site("none");
    let browser = Browser::with(&stage.certificates, ThirdPartyCookies::Allowed);
    browser.open(&stage.url(PORTAL, "/"));
    let first = cross_site_fetch(&browser, &stage, PORTAL);
    assert_eq!(cross_site_fetch(&browser, &stage, PORTAL).session, first.session);
    assert_eq!(in_frame(&browser, &stage, SHOP).session, first.session);
    browser.open(&stage.url(APP, "/"));
    assert_eq!(browser.shown().session, first.session);
}

#[test]
fn a_session_of_same_site_none_has_no_place_at_other_sites_where_third_party_cookies_are_blocked() {
    let stage = same_site("none");
    let browser = Browser::with(&stage.certificates, ThirdPartyCookies::Blocked);
    let first = in_frame(&browser, &stage, PORTAL);
    assert_ne!(in_frame(&browser, &stage, PORTAL).session, first.session);
}

#[test]
fn a_partitioned_session_is_one_for_each_site_that_frames_the_application() {
    for third_party in [ThirdPartyCookies::Allowed, ThirdPartyCookies::Blocked] {
        let stage = Stage::tls(json!({"cookie": {"same_site": "none", "partitioned": true}}));
        let browser = Browser::with(&stage.certificates, third_party);
        browser.open(&stage.url(APP, "/"));
        let own = browser.shown();
        let [portal, shop] = [PORTAL, SHOP].map(|site| in_frame(&browser, &stage, site));
        assert!(own.session != portal.session && own.session != shop.session && portal.session != shop.session);
        for (site, before) in [(PORTAL, portal), (SHOP, shop)] {
            let again = in_frame(&browser, &stage, site);
            assert_eq!((again.session, again.host), (before.session, before.host), "{site}");
        }
        browser.open(&stage.url(APP, "/"));
        assert_eq!(browser.shown().session, own.session);
    }
}
