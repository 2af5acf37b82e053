//! stub
fn main() -> anyhow::Result<()> {
    let name = std::env::args().nth(1).unwrap_or_default();
    let scenario = florin::demo::Scenario::ALL
        .into_iter()
        .find(|scenario| scenario.name() == name)
        .unwrap_or(florin::demo::Scenario::Approved);
    let settings = florin::demo::DemoSettings { amount: "2.50 EUR".parse()?, scenario, directory: None };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ok = runtime.block_on(florin::demo::run(settings, florin::demo::Story::new(false)))?;
    anyhow::ensure!(ok, "not as expected");
    Ok(())
}
