(() => {
  const period = 2000;
  const refresh = async () => {
    if (document.hidden || getSelection().type === "Range") return;
    try {
      const reply = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (!reply.ok) throw new Error(reply.status);
      const fresh = new DOMParser().parseFromString(await reply.text(), "text/html");
      document.querySelector("main").replaceWith(fresh.querySelector("main"));
      document.title = fresh.title;
      document.body.classList.remove("lost");
    } catch {
      document.body.classList.add("lost");
    }
  };
  const next = () => setTimeout(() => refresh().finally(next), period);
  document.addEventListener("visibilitychange", refresh);
  next();
})();
