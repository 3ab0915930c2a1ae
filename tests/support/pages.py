"""A page of another origin than the server's, for a browser."""

from __future__ import annotations

import http.server

import httpx

# What every page of these tests has: it keeps all that an EventSource dispatches, as text.
PAGE = b"""<!doctype html><meta charset="utf-8"><title>a page</title><script>
const got = [], ready = [], failed = [];
let opened = 0;
function listen(url, ...events) {
  const source = window.source = new EventSource(url);
  source.onopen = () => opened++;
  source.onerror = () => failed.push(source.readyState);
  source.addEventListener("$ready", e => ready.push(e.lastEventId));
  for (const event of events)
    source.addEventListener(event, e => got.push([e.lastEventId, e.type, e.data]));
}
async function call(method, url, body, token, headers = {}) {
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (token) headers["Authorization"] = "Bearer " + token;
  const answer = await fetch(url, {method, headers, body: body && JSON.stringify(body)});
  return {status: answer.status, body: await answer.json(), link: answer.headers.get("Link")};
}
</script>"""

# The contrast of each text with the colour behind it (WCAG 2.2, section 1.4.3: at least 4.5).
CONTRASTS = """() => {
  const light = color => color.match(/[\\d.]+/g).slice(0, 3).map(each => each / 255)
    .map(each => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
    .reduce((sum, each, index) => sum + each * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = element => {
    const color = getComputedStyle(element).backgroundColor;
    return color === "rgba(0, 0, 0, 0)" ? behind(element.parentElement) : color;
  };
  return [...document.querySelectorAll("body *")]
    .filter(each => [...each.childNodes].some(node => node.nodeType === 3 && node.data.trim()) && each.offsetHeight)
    .map(each => [light(getComputedStyle(each).color), light(behind(each))].sort((a, b) => b - a))
    .map(([more, less]) => (more + 0.05) / (less + 0.05));
}"""


class PageHandler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/" else 404)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(PAGE if self.path == "/" else b"")

    def log_message(self, format: str, *args: object) -> None:
        pass


def insert(client: httpx.Client, event: str, data: object) -> str:
    answer = client.post("/insert", json={"event": event, "data": data})
    assert answer.status_code == 201
    return str(answer.json()["id"])
