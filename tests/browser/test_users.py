"""Users and tokens on the page: from a machine that needs none to a person who signs in, with and without scripts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from ramq.web import callers
from tests.browser.conftest import PATIENCE_MS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from ramq.wiring import Services

pytestmark = [pytest.mark.browser, pytest.mark.services]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers ask the database with every request."""
    monkeypatch.setattr(callers, "FRESH_SECONDS", 0.0)


def add(page: Page, name: str, role: str) -> None:
    form = page.locator("form", has=page.get_by_role("heading", name="New user"))
    form.get_by_label("Name").fill(name)
    form.get_by_label("Role").select_option(role)
    form.get_by_role("button", name="Add").click()


def make_token(page: Page, name: str, **fields: str) -> str:
    user = page.locator("section", has=page.get_by_role("heading", name=name))
    user.locator("summary", has_text="New token").click()
    for label, value in fields.items():
        user.get_by_label(label.replace("_", " ").capitalize(), exact=True).fill(value)
    user.get_by_role("button", name=f"Make a token for {name}").click()
    return page.locator("#secret").inner_text()


def test_the_first_user_closes_the_page_and_lets_others_in(page: Page, services: Services) -> None:
    page.goto("/users")
    expect(page.get_by_text("Nobody needs a token now")).to_be_visible()
    add(page, "boss", "admin")
    secret = make_token(page, "boss", valid_for="90d", note="desk")
    expect(page.get_by_text("From now on every request needs a token")).to_be_visible()
    page.goto("/users")
    expect(page).to_have_url(re.compile("/login\\?next=%2Fusers$"))
    page.get_by_label("Token").fill(secret)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator(".signed-in")).to_contain_text("boss (admin)")
    expect(page.get_by_role("region", name="Tokens of boss")).to_contain_text("desk")

    add(page, "ann", "correct")
    add(page, "ann", "correct")
    expect(page.get_by_role("alert")).to_contain_text("there is a user ann already")
    ann = make_token(page, "ann")
    assert secret not in page.content()
    page.get_by_role("button", name="Revoke token 1 of boss").click()
    expect(page.get_by_role("alert")).to_contain_text("make another one first")
    page.goto("/users/history")
    expect(page.get_by_role("region", name="Changes of users and tokens")).to_contain_text("made a token")
    assert ann not in page.content()

    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Token").fill(ann)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator(".signed-in")).to_contain_text("ann (read and correct)")
    expect(page.get_by_role("link", name="Users")).to_have_count(0)
    cup = services.images.find("coffee.png")
    page.goto(f"/images/{cup}")
    page.get_by_label("Add a tag").fill("espresso")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_text("added by ann on")).to_be_visible()
    page.goto("/jobs")
    expect(page.get_by_role("heading", name="New job")).to_have_count(0)

    [token] = services.accounts.tokens("ann")
    services.accounts.revoke(token.id)
    page.goto("/jobs")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_user_is_changed_and_removed(page: Page, services: Services) -> None:
    services.accounts.add("ann", "look")
    page.on("dialog", lambda dialog: dialog.accept())

    def press(name: str) -> None:
        page.locator("summary", has_text="Change or remove").click()
        page.get_by_role("button", name=name).click()

    page.goto("/users")
    page.locator("summary", has_text="Change or remove").click()
    page.get_by_role("combobox", name="Role of ann").select_option("run")
    page.get_by_role("button", name="Change the role of ann").click()
    expect(page.get_by_role("heading", name="ann run")).to_be_visible()
    press("Disable ann")
    expect(page.get_by_role("heading", name="ann run disabled")).to_be_visible()
    press("Enable ann")
    page.locator("summary", has_text="Change or remove").click()
    page.get_by_label("New name of ann").fill("anna")
    page.get_by_role("button", name="Rename ann").click()
    expect(page.get_by_text("called ann before")).to_be_visible()
    press("Remove anna")
    expect(page.get_by_role("heading", name="No users yet")).to_be_visible()
    assert [event.what for event in services.accounts.every_event()][::-1] == [
        "added", "role", "disabled", "enabled", "renamed", "removed",
    ]  # fmt: skip


@pytest.mark.parametrize("size", [(390, 844), (1280, 900)], ids=["phone", "desk"])
def test_the_screens_of_users_can_be_used_by_everybody(
    browser: Browser, base_url: str, services: Services, size: tuple[int, int]
) -> None:
    accounts = services.accounts
    accounts.add("boss", "admin")
    secret = accounts.create_token("boss", note="the desk", expires="90d").secret
    accounts.add("ann", "look")
    accounts.revoke(accounts.create_token("ann").token.id)
    accounts.change("ann", is_enabled=False)
    context = browser.new_context(
        base_url=base_url,
        viewport={"width": size[0], "height": size[1]},
        bypass_csp=True,  # axe is put into the page from outside
    )
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto("/login?next=/users")
    page.get_by_label("Token").fill(secret)
    page.get_by_role("button", name="Sign in").click()
    found = []
    for screen in ("/users", "/users/history", "a new token"):
        if screen.startswith("/"):
            page.goto(screen)
        else:
            page.goto("/users")
            make_token(page, "boss")
        for summary in page.locator("summary").all():
            summary.click()
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # literals
            found += [f"{screen}, {scheme}: {one['id']}" for one in Axe().run(page).response["violations"]]
        if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            found.append(f"{screen} is wider than the window")
    context.close()
    assert found == []
