"use strict";
{
  const root = document.documentElement;
  const say = (text) => { document.getElementById("status").textContent = text; };

  // Charts. Their colours are the page's CSS variables, so light, dark and print need no second drawing.
  const source = document.getElementById("specifications");
  const charts = source ? JSON.parse(source.textContent) : {};
  const resolve = (svg) => svg.replace(/var\((--[\w-]+)\)/g, (_, name) => getComputedStyle(root).getPropertyValue(name).trim());
  const opened = [];
  for (const figure of document.querySelectorAll("figure.chart")) {
    const chart = figure.dataset.chart;
    const views = [...figure.querySelectorAll(".vega")].map((place) => {
      const spec = charts[chart][Number(place.dataset.index)];
      const embedded = vegaEmbed(place, spec, { renderer: "svg", actions: false, tooltip: { disableDefaultStyle: true } });
      place.closest(".multiple").querySelector(".save").addEventListener("click", async () => {
        const svg = resolve(await (await embedded).view.toSVG());
        const link = document.createElement("a");
        link.href = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
        link.download = `${chart.replace("/", "-")}-${Number(place.dataset.index) + 1}.svg`;
        link.click();
        URL.revokeObjectURL(link.href);
      });
      return embedded.then((result) => result.view);
    });
    opened.push(...views);
    const buttons = [...figure.querySelectorAll("[data-focus]")];
    const focus = async (name) => {
      for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.focus === name));
      for (const view of views) (await view).signal("focus", name).runAsync();
    };
    for (const button of buttons) {
      button.addEventListener("click", () => focus(button.getAttribute("aria-pressed") === "true" ? "" : button.dataset.focus));
    }
    figure.addEventListener("keydown", (event) => { if (event.key === "Escape") focus(""); });
  }
  Promise.all(opened).then(() => { root.dataset.drawn = String(opened.length); });

  // The section in view, in the contents.
  const links = new Map([...document.querySelectorAll(".toc a")].map((link) => [link.hash.slice(1), link]));
  const seen = new Set();
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) entry.isIntersecting ? seen.add(entry.target.id) : seen.delete(entry.target.id);
    const current = [...links.keys()].find((id) => seen.has(id));
    for (const [id, link] of links) id === current ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current");
  }, { rootMargin: "-25% 0px -60% 0px" });
  for (const id of links.keys()) watch.observe(document.getElementById(id));

  document.getElementById("copy")?.addEventListener("click", async () => {
    const code = document.getElementById("command");
    try {
      await navigator.clipboard.writeText(code.textContent);
      say("The command is copied.");
    } catch { // a file:// page may not write to the clipboard: leave it selected for the keyboard
      getSelection().selectAllChildren(code);
      say("The command is selected.");
      return;
    }
    const button = document.getElementById("copy");
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });

  // Print everything, also what is folded.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const element of folded) element.open = true;
  });
  addEventListener("afterprint", () => { for (const element of folded) element.open = false; });
}
