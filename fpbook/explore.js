(async () => {
  const explorer = document.currentScript.closest(".fpbook-explorer");
  const image = explorer.querySelector("img");
  const text = explorer.querySelector(".fpbook-explorer-text");
  const sliders = [...explorer.querySelectorAll("input")];
  const packed = atob(explorer.querySelector("script").textContent);
  const stream = new Blob([Uint8Array.from(packed, (c) => c.charCodeAt(0))])
    .stream()
    .pipeThrough(new DecompressionStream("deflate"));
  const frames = await new Response(stream).json();
  const sources = frames.images.map((svg) =>
    URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" })),
  );
  const update = () => {
    let frame = 0;
    for (const slider of sliders) {
      const value = JSON.parse(slider.dataset.values)[slider.value];
      frame = frame * (Number(slider.max) + 1) + Number(slider.value);
      slider.setAttribute("aria-valuetext", value);
      slider.nextElementSibling.value = value;
    }
    image.src = sources[frame];
    image.alt = text.textContent = frames.texts[frame];
  };
  sliders.forEach((slider) => slider.addEventListener("input", update));
  update();

  const button = explorer.querySelector(".fpbook-explorer-play");
  if (!button) return;
  const played = document.getElementById(button.getAttribute("aria-controls"));
  let timer = null;
  const stop = () => {
    clearInterval(timer);
    timer = null;
    button.textContent = "Play";
    text.setAttribute("aria-live", "polite");
  };
  const advance = () => {
    played.value = Number(played.value) + 1;
    update();
    if (played.value === played.max) stop();
  };
  button.addEventListener("click", () => {
    if (timer !== null) return stop();
    if (played.value === played.max) {
      played.value = 0;
      update();
    }
    button.textContent = "Pause";
    // A screen reader would read every frame of the way.
    text.setAttribute("aria-live", "off");
    timer = setInterval(advance, Number(button.dataset.interval));
  });
  sliders.forEach((slider) => slider.addEventListener("pointerdown", stop));
})();
