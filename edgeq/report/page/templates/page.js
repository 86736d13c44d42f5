"use strict";
(() => {
  const tip = document.getElementById("tip");
  const hide = () => { tip.hidden = true; };
  const show = (handler, event, item, value) => {
    if (value === undefined || value === null || value === "") return hide();
    tip.textContent = String(value);
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const left = Math.min(event.clientX + 12, window.innerWidth - box.width - 8);
    const below = event.clientY + 16;
    const top = below + box.height > window.innerHeight ? event.clientY - box.height - 12 : below;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${Math.max(8, top)}px`;
  };
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  document.addEventListener("scroll", hide, { passive: true });

  // On paper nothing can be opened: the words and the budgets are, the long tables stay shut.
  window.addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll(".plain, #lines details")) part.open = true;
  });

  const draw = (script) => {
    const id = script.dataset.chart;
    const spec = JSON.parse(script.textContent);
    return vegaEmbed(document.getElementById(id), spec, {
      renderer: "svg",
      actions: false,
      defaultStyle: false,
      bind: document.getElementById(`${id}-controls`),
      tooltip: show,
    }).then(({ view }) => [id, view]);
  };
  // Tests and the curious find every view here, by the id of its chart.
  window.edgeqCharts = Promise.all(
    [...document.querySelectorAll("script[data-chart]")].map(draw)
  ).then(Object.fromEntries);
})();
