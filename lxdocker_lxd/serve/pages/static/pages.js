"use strict";
/* The pages work without this: it copies commands and filters the list while one types. */
(() => {
  const said = document.getElementById("said");

  const copied = async (code) => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      return true;
    } catch {
      const range = document.createRange();
      range.selectNodeContents(code);
      const selection = getSelection();
      selection.removeAllRanges();
      selection.addRange(range);
      return document.execCommand("copy");
    }
  };

  for (const code of document.querySelectorAll("code[data-copy]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy: ${code.textContent}`);
    let timer;
    button.addEventListener("click", async () => {
      const done = await copied(code);
      button.textContent = done ? "Copied" : "Selected";
      said.textContent = done ? `Copied: ${code.textContent}` : "Selected, not copied";
      clearTimeout(timer);
      timer = setTimeout(() => {
        button.textContent = "Copy";
        said.textContent = "";
      }, 4000);
    });
    code.after(button);
  }

  /* Only a page that has all images can be filtered; a server's search result is sent anew. */
  const form = document.querySelector("form[data-complete]");
  if (!form) return;
  const input = form.elements.q;
  const count = document.getElementById("count");
  const table = document.querySelector("table.list");
  const rows = [...document.querySelectorAll("tr[data-find]")];
  const whole = count.textContent;
  if (!table) return;

  const filter = () => {
    const query = input.value.trim();
    const words = query.toLowerCase().split(/\s+/);
    let shown = 0;
    for (const row of rows) {
      row.hidden = !words.every((word) => row.dataset.find.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    table.hidden = !shown;
    document.getElementById("none").hidden = shown > 0;
    count.textContent = query ? `${shown} of ${whole} for “${query}”` : whole;
  };

  input.addEventListener("input", filter);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const query = input.value.trim();
    history.replaceState(null, "", query ? `?q=${encodeURIComponent(query)}` : location.pathname);
    filter();
  });
  input.value ||= new URLSearchParams(location.search).get("q") || "";
  if (input.value) filter();
})();
