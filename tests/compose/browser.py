"""RabbitMQ's pages as a person sees them: a headless Chromium that logs in, looks at the queues and gets a message."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from selenium.common.exceptions import (
    NoSuchElementException,
    StaleElementReferenceException,
    TimeoutException,
    WebDriverException,
)
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

T = TypeVar("T")

PATIENCE = 180.0
"""Seconds that a page may take; it renews itself every five."""
SIZE = (1180, 760)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--hide-scrollbars",
)  # fmt: skip
COMMANDS = ("chromium", "chromedriver")


def missing() -> list[str]:
    """Return which of the browser's commands are not there."""
    return [command for command in COMMANDS if shutil.which(command) is None]


@contextmanager
def browser(profile: Path) -> Iterator[Chrome]:
    """Start a headless Chromium with a profile of its own; end it at the end."""
    chromium, driver = (shutil.which(command) for command in COMMANDS)
    options = ChromeOptions()
    options.binary_location = str(chromium)
    for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={SIZE[0]},{SIZE[1]}"):
        options.add_argument(flag)
    chrome = Chrome(options=options, service=ChromeService(executable_path=driver))
    chrome.set_page_load_timeout(PATIENCE / 10)  # or a load that was lost would be waited for five minutes
    try:
        yield chrome
    finally:
        chrome.quit()


class ManagementPages:
    """RabbitMQ's management pages in a browser.

    Args:
        chrome: the browser.
        url: of the pages.
        vhost: whose queues are looked at.
    """

    MESSAGES = "//div[h2[starts-with(., 'Get messages')]]"
    """The part of a queue's page where messages are got, as an XPath."""

    def __init__(self, chrome: Chrome, url: str, vhost: str) -> None:
        self.chrome = chrome
        self.url = url
        self.vhost = vhost
        self._login: tuple[str, str] | None = None

    def log_in(self, username: str, password: str) -> str:
        """Fill in the form; return what the page says then: who is logged in, or why nobody is."""

        def try_once(seconds: float) -> str:
            self._login = None
            self.open("", "input[name=username]", seconds)
            self._fill_in(username, password)
            said = self.wait(lambda: self.text("#logout") or self.text("#login-status"), "an answer", seconds)
            if not self.text("#login-status"):
                self._login = username, password
            return self.text("#login-status") or self.text("#login-details") or str(said)

        return self.persist(try_once)

    def _fill_in(self, username: str, password: str) -> None:
        for name, text in (("username", username), ("password", password)):
            self.find(f"input[name={name}]").send_keys(text)
        self.find("#login input[type=submit]").click()

    # ------------------------------------------------------------ the queues

    def open_queues(self, prefix: str) -> None:
        """Go to the page of queues, with the column of consumers; show the durable ones below a prefix."""

        def try_once(seconds: float) -> None:
            self.open("#/queues", "span.popup-options-link[for=queues]", seconds).click()
            box = self.find("input[name=queues-consumers]", seconds=seconds)
            if not box.is_selected():
                box.click()
            self.find(".form-popup-options > span").click()
            self.wait(lambda: not self.all(".form-popup-options"), "a closed pop-up", seconds)
            if not self.find("#queues-name").get_attribute("value"):
                self.find("#queues-filter-regex-mode").click()
                self.find("#queues-name").send_keys(f"^{re.escape(prefix)}.(map|shuffle|reduce|dead)$\n")

        self.persist(try_once)

    def queues(self) -> dict[str, dict[str, str]]:
        """Return the table: by the queue's name, what each column says."""
        heads = [cell.text for cell in self.all("table.list thead tr:last-child th")]
        rows = [
            [cell.text for cell in row.find_elements(By.TAG_NAME, "td")]
            for row in self.all("table.list tbody tr")
        ]
        table = [dict(zip(heads, row, strict=False)) for row in rows]
        return {row["Name"]: row for row in table if row.get("Name")}

    # ------------------------------------------------------------ one message

    def get_message(self, queue: str) -> dict[str, str]:
        """Get the first message of a queue and put it back; return its facts as the page shows them."""

        def try_once(seconds: float) -> dict[str, str]:
            self.open(f"#/queues/{self.vhost}/{queue}", f"{self.MESSAGES}/h2", seconds, By.XPATH).click()
            mode = self.find(f"{self.MESSAGES}//select[@name='ackmode']", By.XPATH)
            self.wait(mode.is_displayed, "the form for getting messages", seconds)
            Select(mode).select_by_visible_text("Nack message requeue true")
            self.find(f"{self.MESSAGES}//input[@type='submit']", By.XPATH).click()
            self.wait(lambda: self.text("pre.msg-payload"), "a message", seconds)
            rows = self.all("#msg-wrapper table.facts > tbody > tr")
            return {self.child(row, "th").split("\n")[0]: self.child(row, "td") for row in rows}

        return self.persist(try_once)

    # ------------------------------------------------------------ what the others use

    def picture(self, file: Path, selector: str, by: str = By.CSS_SELECTOR) -> None:
        """Keep a picture of an element, when nothing on the page moves."""

        def try_once(seconds: float) -> None:
            self.wait(lambda: not self.chrome.execute_script("return $(':animated').length"), "rest", seconds)
            file.write_bytes(self.find(selector, by, seconds).screenshot_as_png)

        self.chrome.set_window_size(SIZE[0], 4 * SIZE[1])  # or what is out of sight would be cut off
        self.persist(try_once)

    def persist(self, act: Callable[[float], T]) -> T:
        """Do what takes a few pages again if it fails.

        A browser drops what it loads when a network interface comes or goes, as with every container that does.
        """
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return act(PATIENCE / 10)
            except WebDriverException:
                if time.monotonic() > end:
                    raise

    def open(self, place: str, selector: str, seconds: float, by: str = By.CSS_SELECTOR) -> WebElement:
        """Load a page anew; return an element of it."""
        self.chrome.get("about:blank")  # or a change of place alone would load nothing
        self.chrome.get(f"{self.url}/{place}")
        form = "input[name=username]"
        self.wait(lambda: self.all(selector, by) or self.all(form), f"{selector} or the login", seconds)
        if self._login and self.all(form):  # it may have lost who we are
            self._fill_in(*self._login)
        return self.find(selector, by, seconds)

    def find(self, selector: str, by: str = By.CSS_SELECTOR, seconds: float = PATIENCE / 10) -> WebElement:
        """Return an element as soon as it is there."""
        found: WebElement = self.wait(lambda: self.chrome.find_element(by, selector), selector, seconds)
        return found

    def all(self, selector: str, by: str = By.CSS_SELECTOR) -> list[WebElement]:
        """Return the elements that are there."""
        return self.chrome.find_elements(by, selector)

    def text(self, selector: str) -> str:
        """Return the text of an element, or nothing where it is not there."""
        return "".join(element.text for element in self.all(selector)[:1])

    def child(self, element: WebElement, selector: str) -> str:
        """Return the text of the first such element in another."""
        return element.find_element(By.CSS_SELECTOR, selector).text

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
        """Return what the condition gives as soon as it is true; the page may be drawn anew meanwhile."""
        redrawn = (NoSuchElementException, StaleElementReferenceException)
        waiting = WebDriverWait(self.chrome, seconds, poll_frequency=0.2, ignored_exceptions=redrawn)
        try:
            return waiting.until(lambda _: condition())
        except TimeoutException:
            shown = self.text("body")[:500]
            raise TimeoutException(f"{what}: not within {seconds:g} s, on a page with {shown!r}") from None
