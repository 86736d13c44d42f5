// A model of texts: token ids go in, one text at a time.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text.Json;
using Microsoft.ML.OnnxRuntime;
using Tokenizers.HuggingFace.Tokenizer;

public abstract class TextModel : IDisposable
{
    private readonly Session session;
    private readonly Tokenizer tokenizer;

    protected TextModel(string folder)
    {
        session = new Session(folder);
        tokenizer = Tokenizer.FromFile(Path.Combine(folder, "tokenizer.json"));
        OutputName = Record.GetProperty("outputs")[0].GetProperty("name").GetString()!;
    }

    protected JsonElement Record => session.Record;
    protected string OutputName { get; }

    /// <summary>Token ids with special tokens. The bundle's file cuts long texts as the check did.
    /// </summary>
    public long[] Tokens(string text) =>
        tokenizer.Encode(text, addSpecialTokens: true).First().Ids.Select(id => (long)id).ToArray();

    /// <summary>The model's answer to token ids. No padding: it would change the answer.</summary>
    protected Output Run(long[] ids)
    {
        var all = new Dictionary<string, long[]>
        {
            ["input_ids"] = ids,
            ["attention_mask"] = Enumerable.Repeat(1L, ids.Length).ToArray(),
            ["token_type_ids"] = new long[ids.Length],
        };
        var shape = new long[] { 1, ids.Length };
        var feeds = session.Inputs.ToDictionary(
            name => name, name => OrtValue.CreateTensorValueFromMemory(all[name], shape));
        return session.Run(feeds)[OutputName];
    }

    public void Dispose()
    {
        tokenizer.Dispose();
        session.Dispose();
    }
}
